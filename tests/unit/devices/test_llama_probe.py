"""The tiny model that shows whether the installed llama.cpp computes here, and what its build needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest

from serve.devices import llama_probe
from serve.devices.llama import LlamaUnusable, llama_build

#: A Python in which llama.cpp's decode ends the process.
DIES = """
import os, signal
import llama_cpp.llama_cpp
llama_cpp.llama_cpp.llama_decode = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)
"""

HEADER = Path(__file__).resolve().parents[3] / "scripts" / "amx_tiles.h"

#: 12345 is nowhere in the compiler's output when it believes that nobody reads it.
SHAPES = """
#include <immintrin.h>
#include <stdint.h>
struct shapes { uint8_t palette, row, none[14]; uint16_t columns[16]; uint8_t rows[16]; };
void set() {
    alignas(64) shapes wanted = {};
    wanted.palette = 1;
    wanted.columns[7] = 12345;
    _tile_loadconfig(&wanted);
}
"""


def test_the_tiny_model_answers_with_numbers(tmp_path: Path) -> None:
    llama_probe.write_model(tmp_path / "tiny.gguf")
    assert llama_probe.run(llama_probe.load(tmp_path / "tiny.gguf"), (8, 1))


def test_a_model_whose_numbers_are_none_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    llama_probe.write_model(path)
    reader = gguf.GGUFReader(path, "r+")
    norm = next(tensor for tensor in reader.tensors if tensor.name == "output_norm.weight")
    norm.data[:] = np.nan
    reader.data.flush()
    assert not llama_probe.run(llama_probe.load(path), (1,))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(llama_probe.Refused, match="cannot be loaded"):
        llama_probe.load(tmp_path / "tiny.gguf")


def test_a_batch_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    llama_probe.write_model(tmp_path / "tiny.gguf")
    with pytest.raises(llama_probe.Refused, match="cannot be run"):
        llama_probe.run(llama_probe.load(tmp_path / "tiny.gguf"), (32, 32, 32, 32, 32, 32, 32, 32, 32))


def test_a_build_that_ends_the_process_when_it_computes_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DIES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LlamaUnusable, match="ends the process with signal 11"):
        llama_build()


def _knows_amx() -> bool:
    command = ["g++", "-mamx-tile", "-E", "-x", "c++", os.devnull]
    return (
        shutil.which("g++") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not _knows_amx(), reason="AMX is x86's, and the fault was GCC's, from version 11")
def test_the_shapes_of_amx_tiles_are_written_before_they_are_set(tmp_path: Path) -> None:
    (tmp_path / "set.cpp").write_text(SHAPES)
    command = ["g++", "-O1", "-mamx-tile", "-include", str(HEADER), "-S", "-o", "-", "set.cpp"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "ldtilecfg" in found
    assert "12345" in found
