"""Data sets: the typed row of a conversation, where rows come from, and whether a file of them is right."""
