"""A prepared folder as a trainer opens it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from train.dataset.disk import digest_of
from train.dataset.formats.chat import Chat
from train.dataset.formats.writers import read_parquet

Json = dict[str, Any]

MANIFEST = "manifest.json"
VERSION = 1


class PreparedError(Exception):
    """A folder that cannot be trained on; the message is one line and says why."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A data set that is whole, and as it was written.

    Attributes:
        manifest: what ``manifest.json`` says: ``settings``, ``fingerprint``, and by split its file and counts.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Of contents and settings."""
        return str(self.manifest["fingerprint"])

    @property
    def splits(self) -> dict[str, Path]:
        """The file of each split."""
        return {name: self.folder / split["file"] for name, split in self.manifest["splits"].items()}

    def rows(self, split: str) -> Iterator[Json]:
        """The rows of a split, a few at a time in memory; tokens come as arrays of numbers where they are Parquet.

        Raises:
            PreparedError: there is no such split.
        """
        path = self.splits.get(split)
        if path is None:
            raise PreparedError(f"{self.folder}: there is no split {split!r}; there are {', '.join(self.splits)}")
        return read_parquet([path]) if path.suffix == ".parquet" else _lines(path)

    def check(self, chat: Chat) -> None:
        """Hold the data set to the model that is to be trained on it.

        Raises:
            PreparedError: its tokens are another tokenizer's, or its texts another template's.
        """
        tokenizer = self.manifest["settings"].get("tokenizer")
        if tokenizer is not None and tokenizer["digest"] != chat.digest:
            raise PreparedError(
                f"{self.folder}: is for {tokenizer['name']}, whose tokenizer or template is not this model's;"
                " prepare it anew"
            )


def load_prepared(folder: Path) -> Prepared:
    """Open what ``scripts/prepare_dataset.py`` wrote, and check that every file is what it was.

    Raises:
        PreparedError: it is no such folder, of a version that is not known, or a file is missing or was changed.
    """
    path = folder / MANIFEST
    try:
        manifest = orjson.loads(path.read_bytes())
    except OSError as error:
        raise PreparedError(f"{path}: {error.strerror}; write it with scripts/prepare_dataset.py") from error
    except orjson.JSONDecodeError as error:
        raise PreparedError(f"{path}: is no JSON") from error
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise PreparedError(f"{path}: is not a manifest of version {VERSION}")
    for split in manifest["splits"].values():
        file = folder / split["file"]
        if not file.is_file():
            raise PreparedError(f"{file}: is missing")
        if digest_of(file) != split["sha256"]:
            raise PreparedError(f"{file}: was changed since it was written")
    return Prepared(folder, manifest)


def write_manifest(folder: Path, manifest: Json) -> None:
    """Write the manifest, by which a folder is known to be whole."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest, option=option))


def _lines(path: Path) -> Iterator[Json]:
    with path.open("rb") as file:
        yield from map(orjson.loads, file)
