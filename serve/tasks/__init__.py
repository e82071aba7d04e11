"""Task applications: handlers that do more than pass a prompt on, and ask models of the group for the rest."""
