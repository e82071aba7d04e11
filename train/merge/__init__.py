"""An adapter and its base as one model: a checkpoint, or a GGUF file of any quantization."""
