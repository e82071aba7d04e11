"""What a model's files must be: their sizes and hashes. One file is a folder of one, whose name in it is empty."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from serve.models.errors import WrongContent
from serve.settings.weights import FolderSettings, FolderSource, Weights

_TITLES = {"sha256": "SHA-256", "git": "git hash"}


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file as it must be.

    Attributes:
        name: its path in the folder; empty where the weights are one file.
        bytes: its size.
        digest: ``sha256:`` and its SHA-256, or ``git:`` and the SHA-1 that git names its content by.
    """

    name: str
    bytes: int
    digest: str

    def hasher(self) -> hashlib._Hash:
        """A new hash of the kind that ``digest`` is."""
        if self.digest.startswith("git:"):
            # Not for security alone: the size is checked too, and git has no other name for a small file.
            return hashlib.sha1(b"blob %d\0" % self.bytes, usedforsecurity=False)
        return hashlib.sha256()

    def require_size(self, size: int) -> None:
        """Raise ``WrongContent`` when a size is not the expected one."""
        if size != self.bytes:
            raise WrongContent(f"it has {size} bytes, expected {self.bytes}")

    def require(self, hexdigest: str) -> None:
        """Raise ``WrongContent`` when a hash is not the expected one."""
        kind, _, expected = self.digest.partition(":")
        if hexdigest != expected:
            raise WrongContent(f"its {_TITLES[kind]} is {hexdigest}, expected {expected}")


def listed(weights: Weights) -> list[WantedFile] | None:
    """The files that the settings list; none when only a source knows them."""
    if not isinstance(weights, FolderSettings):
        return [WantedFile("", weights.bytes, f"sha256:{weights.sha256}")]
    if weights.files is None:
        return None
    return [WantedFile(file.file, file.bytes, f"sha256:{file.sha256}") for file in weights.files]


def declared_bytes(weights: Weights) -> int | None:
    """The size of all files that the settings list; none when only a source knows them."""
    files = listed(weights)
    return None if files is None else sum(file.bytes for file in files)


def base_sha256(weights: Weights) -> str | None:
    """The hash that adapters know their base by: that of the file which is served, of the entry of a folder, or of
    the GGUF that a folder is made from; none for other folders."""
    if not isinstance(weights, FolderSettings):
        return weights.sha256
    entry = next((file.sha256 for file in weights.files or () if file.file == weights.entry), None)
    return entry or next((source.gguf.sha256 for source in weights.sources if source.gguf is not None), None)


def pin_of(source: FolderSource) -> str | None:
    """What a source that knows its own files gives, in one line; none for other sources."""
    if source.hub is not None:
        hub = source.hub
        chosen = f" include {sorted(hub.include)}" if hub.include else ""
        left_out = f" exclude {sorted(hub.exclude)}" if hub.exclude else ""
        return f"hub {hub.repo}@{hub.revision}{chosen}{left_out}"
    if source.gguf is not None:
        return f"gguf sha256:{source.gguf.sha256} as {source.gguf.dtype}"
    return None


def pins(weights: Weights) -> set[str]:
    """What the sources give that know their own files."""
    if not isinstance(weights, FolderSettings):
        return set()
    return {pin for source in weights.sources if (pin := pin_of(source)) is not None}
