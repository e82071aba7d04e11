"""GroupQwen's serving side: the gateway, the model handlers, and what they stand on."""

__version__ = "0.1.0"
