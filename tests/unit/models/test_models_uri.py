"""Weights from other file systems through fsspec: in memory, on disk, and those whose library is missing.

S3 is in ``tests/integration/test_models_s3.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from serve.models import ModelSourceError, local_path
from serve.models.sources import uri
from tests.unit.models.files import (
    CONTENT,
    FILES,
    OTHER,
    contents,
    folder_of,
    lay_out,
    names_in,
    weights_of,
)


@pytest.fixture
def memory() -> Iterator[Any]:
    """The file system in memory, empty."""
    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True)


def test_a_cut_download_is_resumed_where_it_was_cut(root: Path, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe_file("/models/a.gguf", CONTENT)
    asked: list[tuple[int, int]] = []
    real = type(memory).cat_file

    def cutting(store: Any, path: str, start: int, end: int) -> bytes:
        asked.append((start, end))
        if len(asked) == 3:
            raise ConnectionResetError("cut")
        found: bytes = real(store, path, start=start, end=end)
        return found

    monkeypatch.setattr(uri, "_RANGE", 300_000)
    monkeypatch.setattr(type(memory), "cat_file", cutting)
    assert local_path("tiny", weights_of({"uri": "memory://models/a.gguf"}), root=root).read_bytes() == CONTENT
    assert asked == [(0, 300_000), (300_000, 600_000), (600_000, 900_000), (600_000, 900_000), (900_000, 1_000_000)]


def test_a_store_that_keeps_failing_is_given_up_and_taken_up_by_a_later_fetch(
    root: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe_file("/models/a.gguf", CONTENT)
    real = type(memory).cat_file

    def failing(store: Any, path: str, start: int, end: int) -> bytes:
        if start:
            raise TimeoutError("too slow")
        found: bytes = real(store, path, start=start, end=end)
        return found

    weights = weights_of({"uri": "memory://models/a.gguf"})
    with monkeypatch.context() as patch:
        patch.setattr(uri, "_RANGE", 300_000)
        patch.setattr(type(memory), "cat_file", failing)
        with pytest.raises(
            ModelSourceError, match=r"TimeoutError: too slow after 300000 of 1000000 bytes \(3 tries\)"
        ):
            local_path("tiny", weights, root=root)
    assert (root / "tiny" / "model.gguf.part").stat().st_size == 300_000
    assert local_path("tiny", weights, root=root).read_bytes() == CONTENT


def test_a_file_address_copies_the_file(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(CONTENT)
    path = local_path("tiny", weights_of({"uri": f"file://{own}"}), root=root)
    assert path == root / "tiny" / "model.gguf"
    assert path.read_bytes() == own.read_bytes()


def test_a_folder_comes_from_a_file_address(root: Path, tmp_path: Path) -> None:
    own = lay_out(tmp_path / "own", FILES)
    assert contents(local_path("tiny", folder_of({"uri": f"file://{own}"}), root=root)) == FILES


@pytest.mark.parametrize(
    ("content", "reason"),
    [(CONTENT[:-1], "the file there has 999999 bytes, expected 1000000"), (OTHER, "its SHA-256 is")],
    ids=["short", "other"],
)
def test_a_wrong_file_is_refused(root: Path, memory: Any, content: bytes, reason: str) -> None:
    memory.pipe_file("/models/a.gguf", content)
    with pytest.raises(ModelSourceError, match=reason):
        local_path("tiny", weights_of({"uri": "memory://models/a.gguf"}), root=root)
    assert names_in(root / "tiny") == set()


def test_a_folder_in_the_place_of_a_file_is_refused(root: Path, memory: Any) -> None:
    memory.pipe_file("/models/a.gguf/inside", b"x")
    with pytest.raises(ModelSourceError, match="that is no file"):
        local_path("tiny", weights_of({"uri": "memory://models/a.gguf"}), root=root)


@pytest.mark.parametrize(
    ("scheme", "module", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("az", "adlfs", "azure")]
)
def test_a_missing_package_is_named_by_its_extra(
    root: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # Importing it fails now.
    monkeypatch.delitem(sys.modules["fsspec.registry"].__dict__["_registry"], scheme, raising=False)
    expected = f"{scheme}://b: a package for {scheme}:// is missing; install it with: scripts/setup.sh {extra}"
    with pytest.raises(ModelSourceError, match=expected):
        local_path("tiny", weights_of({"uri": f"{scheme}://b/k"}), root=root)


def test_a_protocol_that_nobody_knows_is_told(root: Path) -> None:
    with pytest.raises(ModelSourceError, match=r"nope://b: ValueError: Protocol not known: nope"):
        local_path("tiny", weights_of({"uri": "nope://b/k"}), root=root)


def test_an_option_that_the_library_does_not_know_is_told(root: Path, tmp_path: Path) -> None:
    source = {"uri": f"file://{tmp_path}/x", "storage_options": {"auto_mkdirs": 1, "use_listings_cache": "x"}}
    with pytest.raises(ModelSourceError, match=r"file://: "):
        local_path("tiny", weights_of(source), root=root)
