"""Reading values whose types nobody promised: each function takes anything and raises nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from serve.store.values import clean_text

# A number is a time in seconds until it would mean a year after 5000; then it is in milli-, micro-, nanoseconds.
_MOST_SECONDS = 95_617_584_000


def text_of(value: object) -> str:
    """``value`` as clean text; nothing where it is no text."""
    return clean_text(value) if isinstance(value, str) else ""


def name_of(value: object) -> str | None:
    """``value`` as a name or id: clean, trimmed, none where nothing is left; integers count."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**30 else None
    return text_of(value).strip() or None


def record(value: object) -> dict[str, Any]:
    """``value`` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def records(value: object) -> list[dict[str, Any]]:
    """The objects of a list; nothing else of it, and nothing where it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def moment(value: object) -> datetime | None:
    """``value`` as an aware time in UTC: seconds or finer units since 1970, or ISO 8601; none for all else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return _written(value)
    if not isinstance(value, int | float) or not 0 < value < _MOST_SECONDS * 10**9:
        return None
    unit = next(unit for unit in (1, 10**3, 10**6, 10**9) if value < _MOST_SECONDS * unit)
    return datetime.fromtimestamp(value / unit, UTC)


def _written(value: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(value.strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
