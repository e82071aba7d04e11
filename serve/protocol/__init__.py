"""OpenAI's API as types: what comes in, what a handler yields, and how both look on the wire."""
