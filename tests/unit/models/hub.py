"""A server that answers as the model hub's documented API does: lists of files in pages, and the files themselves.

It is written after https://huggingface.co/docs/hub/api, not recorded from the hub.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from tests.unit.models.files import sha256_of
from tests.unit.models.web import Page, Site

REPO = "some-group/some.model"
REVISION = "0123456789abcdef0123456789abcdef01234567"
TREE = f"/api/models/{REPO}/tree/{REVISION}?recursive=true"
#: Files of this size or more are kept outside git.
LARGE = 1000


def git_hash(content: bytes) -> str:
    """What git names a file's content by."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(name: str, content: bytes) -> dict[str, Any]:
    """A file in the hub's list."""
    found: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git_hash(content)}
    if len(content) >= LARGE:
        sha256 = sha256_of(content)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
        large = {"oid": sha256, "size": len(content), "pointerSize": len(pointer)}
        found |= {"oid": git_hash(pointer), "lfs": large, "xetHash": "f" * 64}
    return found


def listing(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """The hub's list of a repository, folders included."""
    folders = sorted({name.rpartition("/")[0] for name in files if "/" in name})
    return [
        *({"type": "directory", "path": folder, "size": 0, "oid": "0" * 40} for folder in folders),
        *(entry(name, content) for name, content in files.items()),
    ]


def resolved(name: str) -> str:
    """The path that a file is downloaded from."""
    return f"/{REPO}/resolve/{REVISION}/{quote(name)}"


def hub_pages(files: dict[str, bytes]) -> dict[str, Page]:
    """The answers of a hub that has one repository with these files."""
    pages = {TREE: Page(json.dumps(listing(files)).encode())}
    for name, content in files.items():
        headers = {"X-Repo-Commit": REVISION}
        if len(content) >= LARGE:
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{sha256_of(content)}"'}
        pages[resolved(name)] = Page(content, headers)
    return pages


def hub_site(files: dict[str, bytes]) -> Site:
    """A hub with one repository with these files."""
    return Site(pages=hub_pages(files))


def hub_folder(**more: Any) -> dict[str, Any]:
    """The source of that repository."""
    return {"hub": {"repo": REPO, "revision": REVISION, **more}}
