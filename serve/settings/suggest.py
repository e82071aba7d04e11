"""Checks of names, and sentences that name what is allowed and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, or none that is close."""
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def one_of(what: str, given: str, known: Iterable[str]) -> str:
    """``unknown WHAT 'given'; did you mean 'x'? Known: ...``"""
    names = sorted(known)
    guess = nearest(given, names)
    hint = f"; did you mean {guess!r}?" if guess else "."
    return f"unknown {what} {given!r}{hint} Known: {', '.join(names)}"


def require_distinct(what: str, names: list[str]) -> None:
    """Raise ``ValueError`` when two of ``what`` have the same name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"each {what} needs a name of its own; given twice: {', '.join(twice)}")
