"""Download from an object store, or another file system, that fsspec has a library for."""

from __future__ import annotations

from collections.abc import Callable
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
        name = part.wanted.name
        # Not quoted, unlike a URL: here each character stands for itself.
        address = f"{self.address.rstrip('/')}/{name}" if name else self.address
        store, path, etag = self._find(address, part.wanted.bytes)
        origin = part.origin()
        if part.size and origin is not None and origin.source == address and origin.etag != etag:
            part.restart()
        part.comes_from(address, etag)
        while part.size < part.wanted.bytes:
            end = min(part.size + _RANGE, part.wanted.bytes)
            try:
                chunk: bytes = store.cat_file(path, start=part.size, end=end)
            except Exception as failure:
                raise Interrupted(f"{_reason(failure)} after {part.size} of {part.wanted.bytes} bytes") from failure
            if not chunk:
                raise Interrupted(f"it ended after {part.size} of {part.wanted.bytes} bytes")
            part.write(chunk)

    def _find(self, address: str, size: int) -> tuple[fsspec.AbstractFileSystem, str, str | None]:
        """The file system of an address, the file's path in it, and the file's version if the store tells."""
        try:
            store, path = url_to_fs(address, skip_instance_cache=True, **self._options)
            info = store.info(path)
        except ImportError as failure:
            raise SourceFailed(self._what_to_install(failure)) from failure
        except FileNotFoundError:
            raise SourceFailed("there is no such file") from None
        except Exception as failure:
            raise SourceFailed(_reason(failure)) from failure
        if info["type"] != "file":
            raise SourceFailed("that is no file")
        if info["size"] != size:
            raise SourceFailed(f"the file there has {info['size']} bytes, expected {size}")
        etag = info.get("ETag", info.get("etag"))
        return store, path, str(etag) if etag else None

    def _what_to_install(self, failure: ImportError) -> str:
        extra = EXTRAS.get(self._protocol)
        if extra is None:
            return f"a package for {self._protocol}:// is missing: {_first_line(failure)}"
        return f"a package for {self._protocol}:// is missing; install it with: pip install 'groupqwen[{extra}]'"


def _reason(failure: Exception) -> str:
    return f"{type(failure).__name__}: {_first_line(failure)}" if str(failure) else type(failure).__name__


def _first_line(failure: Exception) -> str:
    return str(failure).strip().partition("\n")[0][:_REASON_CHARS]
