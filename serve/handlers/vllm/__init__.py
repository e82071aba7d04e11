"""Checkpoints on vLLM: GPUs, tensor and pipeline parallel, quantized, thinking, tools, pictures, LoRA.

One request's way: ``handler`` hands a ``ChatRequest`` to ``request``, which writes it as vLLM's own; ``library``
renders the prompt with vLLM's chat server and starts the generation; ``output`` turns what comes into events.
``arguments`` says how the engine's settings become vLLM's, ``stats`` what the engine tells of its load, ``errors``
what its exceptions mean, ``adapter`` whether an adapter fits. ``reaper`` ends the engine with its replica, and
``platform`` helps vLLM find its platform.

vLLM reports what it runs on to its makers unless told not to, and asks the model hub about a folder that is here;
both are turned off before it is imported.
"""

import os

os.environ["VLLM_NO_USAGE_STATS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
