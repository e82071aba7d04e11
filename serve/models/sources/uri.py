"""Download from an object store, or another file system, that fsspec has a library for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.core import url_to_fs

from serve.models.errors import Interrupted, SourceFailed
from serve.models.partial import PartialFile
from serve.models.sources.retry import with_tries

#: Bytes of one request; what a cut connection can lose.
_RANGE = 1 << 23
_REASON_CHARS = 300
#: Protocol -> the extra of this project that brings its library.
EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "adl": "azure",
}


class UriSource:
    """A file at an address that fsspec knows, or a folder of files below one.

    Args:
        uri: the address; holds no secret. Credentials are where the protocol's library looks for them.
        options: what its file system is told, such as ``endpoint_url``.

    Attributes:
        label: protocol and bucket, for messages.
        address: the address.
    """

    def __init__(self, uri: str, options: dict[str, Any] | None) -> None:
        parts = urlsplit(uri)
        self.label = f"{parts.scheme}://{parts.netloc}"
        self.address = uri
        self._protocol = parts.scheme
        self._options = options or {}

    def extra_space(self, size: int) -> int:
        """Bytes of disk that a download of files of this size takes beside them."""
        return 0

    def fill(self, part: PartialFile, note: Callable[[str], None]) -> None:
        """Append what is missing, in ranges.

        Raises:
            SourceFailed: the library is not installed, the store cannot be reached, refuses, or failed three times.
        """
        with_tries(lambda: self._try(part), self.label, note)

    def _try(self, part: PartialFile) -> None:
        path, etag = self._find(part)
        # Not quoted, unlike a URL: here each character stands for itself.
        address = _below(self.address, part.wanted.name)
        origin = part.origin()
        if part.size and origin is not None and origin.source == address and origin.etag != etag:
            part.restart()
        part.comes_from(address, etag)
        while part.size < part.wanted.bytes:
            end = min(part.size + _RANGE, part.wanted.bytes)
            try:
                chunk: bytes = self._store.cat_file(path, start=part.size, end=end)
            except Exception as failure:
                raise Interrupted(f"{_reason(failure)} after {part.size} of {part.wanted.bytes} bytes") from failure
            if not chunk:
                raise Interrupted(f"it ended after {part.size} of {part.wanted.bytes} bytes")
            part.write(chunk)

    def _find(self, part: PartialFile) -> tuple[str, str | None]:
        """The path of a file in the file system, and its version if the store tells."""
        try:
            path = _below(self._root, part.wanted.name)
            info = self._store.info(path)
        except ImportError as failure:
            raise SourceFailed(self._what_to_install(failure)) from failure
        except FileNotFoundError:
            raise SourceFailed("there is no such file") from None
        except Exception as failure:
            raise SourceFailed(_reason(failure)) from failure
        if info["type"] != "file":
            raise SourceFailed("that is no file")
        if info["size"] != part.wanted.bytes:
            raise SourceFailed(f"the file there has {info['size']} bytes, expected {part.wanted.bytes}")
        etag = info.get("ETag", info.get("etag"))
        return path, str(etag) if etag else None

    @cached_property
    def _opened(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """The file system, and the address's path in it. Not fsspec's cached one, so that credentials that were
        set since then count."""
        store, path = url_to_fs(self.address, skip_instance_cache=True, **self._options)
        return store, path

    @property
    def _store(self) -> fsspec.AbstractFileSystem:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    def _what_to_install(self, failure: ImportError) -> str:
        extra = EXTRAS.get(self._protocol)
        if extra is None:
            return f"a package for {self._protocol}:// is missing: {_first_line(failure)}"
        return f"a package for {self._protocol}:// is missing; install it with: scripts/setup.sh {extra}"


def _below(address: str, name: str) -> str:
    return f"{address.rstrip('/')}/{name}" if name else address


def _reason(failure: Exception) -> str:
    return f"{type(failure).__name__}: {_first_line(failure)}" if str(failure) else type(failure).__name__


def _first_line(failure: Exception) -> str:
    return str(failure).strip().partition("\n")[0][:_REASON_CHARS]
