"""A model hub by its documented HTTP API: files, and lists of files with their hashes.

https://huggingface.co/docs/hub/api
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qs, quote, urlsplit

import requests
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from serve.models.errors import Interrupted, SourceFailed
from serve.models.partial import PartialFile
from serve.models.sources.http import HttpSource, answered
from serve.models.sources.retry import with_tries
from serve.models.wanted import WantedFile
from serve.settings.weights import HubFolder, HubSource, distinct_paths, inner_path

#: Answers of one list; the hub gives up to 1000 files in each.
_MOST_PAGES = 100
_MOST_LIST_BYTES = 1 << 24


class HubDownload(HttpSource):
    """A file, or the files, of a repository at a pinned revision.

    Args:
        endpoint: the hub's address.
        token: shown to the hub's host only; none for public repositories.
        source: the repository, with its file or with patterns.
    """

    def __init__(self, endpoint: str, token: str | None, source: HubSource | HubFolder) -> None:
        base = f"{endpoint}/{source.repo}/resolve/{source.revision}"
        super().__init__(f"{base}/{quote(source.file)}" if isinstance(source, HubSource) else base, token)
        self._source = source
        self._tree = f"{endpoint}/api/models/{source.repo}/tree/{source.revision}?recursive=true"
        self._has_token = token is not None

    def listing(self, note: Callable[[str], None]) -> list[WantedFile]:
        """The repository's files that the settings choose.

        Raises:
            SourceFailed: the list cannot be had, makes no sense, names paths outside a folder, or is empty.
        """
        assert isinstance(self._source, HubFolder), "a source of one file needs no list"
        files: list[WantedFile] = []
        cursor: str | None = None
        with requests.Session() as session:
            for _ in range(_MOST_PAGES):
                entries, cursor = with_tries(partial(self._page, session, cursor), self.label, note)
                files += [wanted for entry in entries if (wanted := _wanted(entry, self._source)) is not None]
                if cursor is None:
                    break
            else:
                raise SourceFailed(f"its list of files has more than {_MOST_PAGES} pages")
        if not files:
            raise SourceFailed("no file of the repository is chosen by include and exclude")
        try:
            distinct_paths([file.name for file in files])
        except ValueError as fault:
            raise SourceFailed(f"its list of files makes no sense: {fault}") from fault
        return files

    def refusal(self, response: requests.Response) -> str:
        """What a refusal means at the hub, which names the reason in a header."""
        text, code = answered(response), response.headers.get("X-Error-Code", "")
        if code in {"RevisionNotFound", "EntryNotFound"}:
            what = "revision" if code == "RevisionNotFound" else "file"
            return f"{text}: the repository has no such {what}"
        if response.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            why = "the repository is gated" if code == "GatedRepo" else "it is private, gated or not there"
            token = "a token whose account may see it" if self._has_token else "a token"
            return f"{text}: {why}; accept its licence on the hub's page and set HF_TOKEN to {token}"
        return text

    def inspect(self, response: requests.Response, part: PartialFile) -> None:
        """Hold what the hub says of a large file, before it redirects to its storage, to what is wanted."""
        for answer in (*response.history, response):
            size = answer.headers.get("X-Linked-Size", "")
            if size.isdecimal() and int(size) != part.wanted.bytes:
                raise SourceFailed(f"the file there has {size} bytes, expected {part.wanted.bytes}")
            sha256 = re.fullmatch(r'"?([0-9a-f]{64})"?', answer.headers.get("X-Linked-Etag", ""))
            if sha256 and part.wanted.digest != f"sha256:{sha256[1]}":
                raise SourceFailed(f"the file there has the SHA-256 {sha256[1]}, expected {part.wanted.digest}")
            commit = answer.headers.get("X-Repo-Commit", self._source.revision)
            if commit != self._source.revision:
                raise SourceFailed("it answers with another revision than the one asked for")

    def _page(self, session: requests.Session, cursor: str | None) -> tuple[list[_Entry], str | None]:
        """One answer of the list, and where the next one begins."""
        url = self._tree if cursor is None else f"{self._tree}&cursor={quote(cursor, safe='')}"
        body = b""
        with self._ask(session, url, {}) as response:
            self._refuse_errors(response)
            try:
                for chunk in response.iter_content(1 << 16):
                    body += chunk
                    if len(body) > _MOST_LIST_BYTES:
                        raise SourceFailed("its list of files is too large")
            except requests.RequestException:
                raise Interrupted("its list of files was cut") from None
            # A mirror may name the hub's own host here, so only the cursor is taken.
            query = parse_qs(urlsplit(response.links.get("next", {}).get("url", "")).query)
        try:
            return _ENTRIES.validate_json(body), query.get("cursor", [None])[0]
        except ValidationError:
            raise SourceFailed("its list of files cannot be read") from None


class _LargeFile(BaseModel):
    """What the hub says of a file that it keeps outside git: its size and SHA-256."""

    oid: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: int


class _Entry(BaseModel):
    """A file or folder in the hub's list; ``oid`` is git's name of a file's content."""

    type: str
    path: str
    oid: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    size: Annotated[int, Field(ge=0)] = 0
    lfs: _LargeFile | None = None


_ENTRIES = TypeAdapter(list[_Entry])


def _wanted(entry: _Entry, source: HubFolder) -> WantedFile | None:
    """The file that an entry of the list stands for, if the settings choose it."""
    if entry.type != "file":
        return None
    try:
        name = inner_path(entry.path)
    except ValueError as fault:
        raise SourceFailed(f"its list of files is refused: {fault}") from fault
    chosen = not source.include or any(fnmatchcase(name, pattern) for pattern in source.include)
    if not chosen or any(fnmatchcase(name, pattern) for pattern in source.exclude):
        return None
    if entry.lfs is not None:
        return WantedFile(name, entry.lfs.size, f"sha256:{entry.lfs.oid}")
    return WantedFile(name, entry.size, f"git:{entry.oid}")
