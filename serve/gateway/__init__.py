"""The ingress: one ASGI app, a module for each API family."""
