"""One model as a Ray Serve deployment: a handler behind an ASGI app that speaks OpenAI's API."""
