"""The key that a server wants: from the environment, or from a file that may change while the replica runs."""

from __future__ import annotations

import logging
from pathlib import Path

from serve.settings.environment import read_secret
from serve.settings.errors import SettingsError
from serve.settings.upstream import UpstreamEngine

logger = logging.getLogger(__name__)

_LARGEST = 16 * 1024


class Key:
    """A key, or none; its value is in no ``repr``.

    Raises:
        SettingsError: the variable is not set, or the file cannot be read or holds no key.
    """

    def __init__(self, settings: UpstreamEngine) -> None:
        self._file = Path(settings.key_file) if settings.key_file is not None else None
        self._seen: tuple[int, int, int] | None = None
        self._value: str | None = None
        if settings.key_env is not None:
            self._value = _checked(read_secret(settings.key_env), f"the environment variable {settings.key_env}")
        elif self._file is not None:
            self._read(self._file)

    def __repr__(self) -> str:
        return f"<Key {'none' if self._value is None else 'set'}>"

    def current(self) -> str | None:
        """The key as it is now. A file that has become unreadable leaves the last one, so that a key can be replaced
        in any way."""
        if self._file is not None:
            try:
                if self._state(self._file) != self._seen:
                    self._read(self._file)
                    logger.info("key read again", extra={"file": str(self._file)})
            except (OSError, SettingsError) as error:
                logger.warning("the old key stays in use: %s", error)
        return self._value

    def hidden(self, text: str) -> str:
        """``text`` without the key."""
        return text if self._value is None else text.replace(self._value, "***")

    def _read(self, file: Path) -> None:
        try:
            state = self._state(file)
            with file.open("rb") as opened:
                raw = opened.read(_LARGEST + 1)
        except OSError as error:
            raise SettingsError(f"key_file {file}: {error.strerror}") from error
        self._value = _checked(raw.decode("ascii", errors="replace").strip(), f"key_file {file}")
        self._seen = state

    def _state(self, file: Path) -> tuple[int, int, int]:
        found = file.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns


def _checked(value: str, where: str) -> str:
    if not value:
        raise SettingsError(f"{where} is empty")
    if len(value) > _LARGEST or not value.isascii() or not value.isprintable() or " " in value:
        raise SettingsError(f"{where} holds no key: one word of printable ASCII is expected")
    return value
