"""How the gateway reaches a model: bytes over HTTP through Serve's proxy, or pieces through a Serve handle."""
