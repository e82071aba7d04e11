"""All of a node, and the llama.cpp on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serve.devices.llama import LlamaUnusable, llama_build, why_not_loaded
from serve.devices.node import node


def test_the_installed_llama_cpp_says_what_it_was_built_for() -> None:
    found = llama_build()
    assert found.version.count(".") == 2
    assert "=" in found.system_info


def test_a_python_without_llama_cpp_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise ModuleNotFoundError(\"No module named 'llama_cpp'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LlamaUnusable, match="No module named 'llama_cpp'"):
        llama_build()
    found = node()
    assert found.llama is None
    assert "No module named" in (found.llama_fault or "")


def test_a_build_for_another_processor_is_told_and_ends_only_its_own_process() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGILL)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "signal 4" in why_not_loaded("x", ended)


def test_a_node_has_all_its_parts() -> None:
    found = node()
    assert 0 < found.memory_available < found.memory_limit
    assert found.processor.cores >= 1
    assert found.llama is not None
    assert found.llama_fault is None
