"""Where model weights come from: found or fetched, checked by their hash, locked, resumed.

Weights, a file or a folder of files, lie at ``<models folder>/<model id>/<name>``; their manifest, ``<name>.json``,
is written last, and weights without a fitting one are not trusted. ``python -m serve.models`` does the same from a
shell.
"""

from serve.models.errors import ModelSourceError
from serve.models.fetch import fetch, fetch_all, local_path, ready_entry
from serve.models.local import LocalFile, list_local, remove, verify

__all__ = [
    "LocalFile",
    "ModelSourceError",
    "fetch",
    "fetch_all",
    "list_local",
    "local_path",
    "ready_entry",
    "remove",
    "verify",
]
