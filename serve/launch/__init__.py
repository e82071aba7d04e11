"""One command from nothing to a group that answers on this machine, and one that stops it again."""
