"""Data sets: the typed row of a conversation, and where rows come from."""
