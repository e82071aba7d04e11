"""A tuned adapter against its base: what it has learned and forgotten, and whether it serves as it trained."""
