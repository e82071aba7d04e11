"""Other libraries that find near duplicates, each in an environment of its own: datasketch, and text-dedup."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from benchmarks import environments, tree
from benchmarks.errors import BenchmarkError
from benchmarks.machine import ROOT
from train.dataset.duplicates import DuplicateSettings

DATASKETCH, TEXT_DEDUP = "datasketch 2.0.0", "text-dedup 0.4.1"
_TEXT_DEDUP_PYTHON = ("python3.13", "python3.12")

_CONFIG = """[input]
input_type = "local_files"
file_type = "json"
[input.read_arguments]
path = "json"
data_files = "{texts}"
split = "train"
cache_dir = "{cache}"
[algorithm]
algorithm_name = "minhash"
text_column = "text"
num_perm = {permutations}
threshold = {threshold}
ngram_size = {shingle}
check_false_positive = true
[output]
output_dir = "{out}"
save_clusters = true
[debug]
enable_profiling = false
"""
_CLUSTERS = "import json, pickle, sys; json.dump(list(pickle.load(open(sys.argv[1], 'rb')).items()), sys.stdout)"


def write_texts(shards: list[Path], out: Path) -> int:
    """The rows' texts as the rivals read them, one JSON object a line; gives how many."""
    count = 0
    with out.open("wb") as file:
        for line in _lines(shards):
            text = "\n".join(message["content"] for message in orjson.loads(line)["messages"])
            file.write(orjson.dumps({"text": text}, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def datasketch(texts: Path, rows: int, folder: Path) -> tuple[float, list[int], int]:
    """Run datasketch in one process; gives seconds, the group of each row, and the most bytes of memory.

    Raises:
        BenchmarkError: it could not be installed, or failed.
    """
    program = environments.installed("datasketch", DATASKETCH.replace(" ", "==")) / "python"
    settings = DuplicateSettings()
    numbers = [str(settings.permutations), str(settings.threshold), str(settings.shingle)]
    command = [str(program), str(ROOT / "benchmarks" / "curate_datasketch.py"), str(texts), *numbers]
    ran = tree.run(command, folder / "datasketch.log")
    result = orjson.loads(ran.output)
    return result["seconds"], result["groups"], ran.peak


def text_dedup(texts: Path, rows: int, folder: Path, python: str | None) -> tuple[float, list[int], int]:
    """Run text-dedup with a process for every processor; gives seconds, groups, and the most bytes of memory.

    Raises:
        BenchmarkError: it could not be installed, or failed.
    """
    program = environments.installed("text-dedup", TEXT_DEDUP.replace(" ", "=="), python=_python(python)) / "python"
    settings, out = DuplicateSettings(), folder / "text-dedup"
    out.mkdir()
    values = settings.model_dump() | {"texts": texts, "out": out, "cache": folder / "cache"}
    (out / "config.toml").write_text(_CONFIG.format(**values), encoding="utf-8")
    began = time.perf_counter()
    ran = tree.run([str(program), "-m", "text_dedup.minhash"], folder / "text-dedup.log", folder=out)
    seconds = time.perf_counter() - began
    clusters = subprocess.run(
        [str(program), "-c", _CLUSTERS, str(out / "clusters.pickle")], capture_output=True, check=True
    )
    groups = list(range(rows))
    for row, group in orjson.loads(clusters.stdout):
        groups[row] = group
    return seconds, groups, ran.peak


def _python(given: str | None) -> str:
    """A Python that text-dedup runs on, which wants 3.12 or later."""
    if sys.version_info >= (3, 12):
        return given or sys.executable
    for name in [given] if given else _TEXT_DEDUP_PYTHON:
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return path
    raise BenchmarkError("text-dedup needs Python 3.12 or later; name one with --text-dedup-python, or --no-rivals")


def _lines(shards: list[Path]) -> Iterator[bytes]:
    for path in shards:
        with path.open("rb") as file:
            yield from file
