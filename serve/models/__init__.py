"""Where model weights come from: found or fetched, checked by their hash, locked, resumed.

Every file lies at ``<models folder>/<model id>/<file>``; its manifest, ``<file>.json``, is written last, and a
file without a fitting one is not trusted. ``python -m serve.models`` does the same from a shell.
"""

from serve.models.errors import ModelSourceError
from serve.models.fetch import fetch, local_path
from serve.models.local import LocalFile, list_local, remove, verify

__all__ = ["LocalFile", "ModelSourceError", "fetch", "list_local", "local_path", "remove", "verify"]
