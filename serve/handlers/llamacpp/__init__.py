"""GGUF models on llama.cpp's C API, with continuous batching.

One request's way: ``handler`` (asyncio) makes a ``plan`` of it, which holds the prompt's tokens (``template``), how
to sample (``sampler``, ``grammar``) and how to read the output (``output``). ``engine`` runs the plan's choices as
sequences (``sequence``) in the ``slots`` of one ``context``, on a thread of its own, and hands what they say to the
request's stream, which the handler yields from.
"""
