"""Finds the conversations in a stream of JSON, one after the other, with memory for one of them.

A stream is an array of objects, several arrays, an object with an array of conversations inside, a single object, or
objects on lines of their own (JSONL). What is broken is given with its place, and reading goes on at the next object
that is a conversation: parsers of streams, such as ijson, end at the first error, and all that follows is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from train.dataset.exports.problems import Reason

CHUNK_BYTES = 256 * 1024
# How many brackets are looked at to find a conversation among what is broken, before all that is at hand is given up.
MOST_BRACKETS = 500_000

# Between structural characters: anything else, and whole strings. A raw line break ends no string, it breaks one.
_PLAIN = re.compile(rb'[^"{}\[\]]*+(?:"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"[^"{}\[\]]*+)*+')
_IN_STRING = re.compile(rb'(?:[^"\\\n]++|\\[^\n])*+')
_BLANK = re.compile(rb"[ \t\r\n,\[\]}]*+")  # With the end of an object whose beginning was broken.
_SPACE = re.compile(rb"[ \t\r\n]*+")
_WRAPPER = re.compile(rb'"(?:conversations|threads|chats|data)"\s*+:\s*+\Z')
_START = re.compile(rb'\{[ \t\r\n]*+["}]')
_LOOK_BACK = 64
_QUOTE = ord('"')
_OPENING = b"{["
_BOM = b"\xef\xbb\xbf"


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object. ``number`` counts from 1, ``line`` from 1, ``byte`` from 0."""

    value: dict[str, Any]
    number: int
    line: int
    byte: int


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that is no object, or not whole."""

    reason: Reason
    detail: str
    number: int
    line: int
    byte: int


class _Bad(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Frames:
    """The objects of one stream.

    Args:
        stream: UTF-8, with or without a byte order mark. What ``read`` raises ends the stream, like its end, and is
            kept in ``failure``.
        wanted: whether an object is a conversation; asked where the structure alone does not say.
        most: bytes of the largest object.
        deepest: levels of the deepest.
    """

    def __init__(
        self, stream: Readable, wanted: Callable[[dict[str, Any]], bool], *, most: int = 64 << 20, deepest: int = 200
    ) -> None:
        self.failure: Exception | None = None
        self._stream = stream
        self._wanted = wanted
        self._most = most
        self._deepest = deepest
        self._data = bytearray()
        self._base = 0  # Of ``_data``: its place in the stream,
        self._lines = 0  # and the line breaks before it.
        self._number = 0
        self._reached = 0  # How far the last search for the end of an object came,
        self._brackets = 0  # and the brackets that all of them met.
        self._ended = False

    def __iter__(self) -> Iterator[Found | Broken]:
        """Every object, in order."""
        while len(self._data) < len(_BOM) and self._fill():
            pass
        if self._data.startswith(_BOM):
            self._drop(len(_BOM))
        inside = False
        while True:
            at = self._skip(_BLANK, 0, drop=True)
            if at >= len(self._data):
                return
            if inside and self._data[at : at + 1] != b"{":
                # After the array of conversations: the rest of the object that it is in.
                inside = False
                self._leave()
                continue
            try:
                if self._number == 0 and not inside and self._enter():
                    inside = True
                    continue
                yield self._next()
            except _Bad as bad:
                yield from self._recover(bad)

    def _next(self) -> Found:
        end = self._end_of(0)
        found = self._found(_parsed(self._data[:end]))
        self._drop(end)
        return found

    def _found(self, value: dict[str, Any]) -> Found:
        self._number += 1
        return Found(value, self._number, *self._place())

    def _recover(self, bad: _Bad) -> Iterator[Found | Broken]:
        """Report what is broken at the beginning of the data, and go on at the next conversation."""
        self._number += 1
        yield Broken(bad.reason, bad.detail, self._number, *self._place())
        at, work, brackets = 1, 0, self._brackets
        while True:
            begin = self._start_from(at)
            # Broken pieces within broken pieces would be read again and again: there is an end to trying.
            if begin is None or work > 4 * self._most or self._brackets - brackets > MOST_BRACKETS:
                at, work, brackets = 1, 0, self._brackets
                # The little that may be the beginning of an object.
                self._drop(max(len(self._data) - _LOOK_BACK, 1) - 1)
                if not self._fill():
                    self._drop(len(self._data))
                    return
                continue
            self._drop(begin)
            at = 1
            try:
                end = self._end_of(0)
                value = _parsed(self._data[:end])
            except _Bad:
                work += self._reached
                continue
            work += end
            if self._wanted(value):
                yield self._found(value)
                self._drop(end)
                return

    def _start_from(self, at: int) -> int | None:
        """The next place where an object begins after an element, or on a line of its own: no value of a key."""
        for start in _START.finditer(self._data, at):
            before = bytes(self._data[max(start.start() - _LOOK_BACK, 0) : start.start()])
            element = before.rstrip(b" \t\r\n")
            if not element or element[-1:] in (b"[", b",", b"}", b"]") or b"\n" in before[len(element) :]:
                return start.start()
        return None

    def _end_of(self, start: int) -> int:
        """The end of the object that begins at ``start``; reads as much as it needs."""
        if self._data[start : start + 1] != b"{":
            raise _Bad(Reason.BROKEN_JSON, "there is something that is no object")
        # The one loop that runs for every bracket there is: no calls of our own where the data is at hand.
        data, plain, deepest, before = self._data, _PLAIN.match, self._deepest, self._brackets
        depth, at = 1, start + 1
        try:
            while depth:
                match = plain(data, at)
                at = match.end() if match else at
                if at >= len(data) or data[at] == _QUOTE:
                    at = self._structure(at, start)
                depth += 1 if data[at] in _OPENING else -1
                if depth > deepest:
                    self._reached = at
                    raise _Bad(Reason.TOO_DEEP, f"nested deeper than {deepest} levels")
                at += 1
                before += 1
        finally:
            self._brackets = before
        if at - start > self._most:
            raise _Bad(Reason.TOO_LARGE, f"more than {self._most} bytes")
        return at

    def _structure(self, at: int, start: int) -> int:
        """The place of the next bracket from ``at`` on that is in no string."""
        while True:
            match = _PLAIN.match(self._data, at)
            at = match.end() if match else at
            if at < len(self._data) and self._data[at : at + 1] != b'"':
                return at
            # The data ends, perhaps within a string.
            inside = at < len(self._data)
            at += inside
            while True:
                self._reached = at
                if inside:
                    match = _IN_STRING.match(self._data, at)
                    at = match.end() if match else at
                    if self._data[at : at + 1] == b'"':
                        at += 1
                        break
                    if self._data[at : at + 1] == b"\n" or self._data[at : at + 2] == b"\\\n":
                        raise _Bad(Reason.BROKEN_JSON, "a line ends within a string")
                if len(self._data) - start > self._most:
                    raise _Bad(Reason.TOO_LARGE, f"more than {self._most} bytes")
                if not self._fill():
                    raise _Bad(Reason.CUT_OFF, "the data ends in the middle")
                if not inside:
                    break

    def _enter(self) -> bool:
        """Whether the stream is one object that holds an array of conversations; if so, drop all before them."""
        at, depth = 1, 1
        if self._data[:1] != b"{":
            return False
        # Such an array comes after little else.
        while at < CHUNK_BYTES:
            try:
                at = self._structure(at, 0)
            except _Bad:
                return False
            opens = self._data[at] in _OPENING
            if self._data[at] == ord("[") and depth == 1 and _WRAPPER.search(self._data, max(at - 64, 0), at):
                return self._enter_array(at + 1)
            depth += 1 if opens else -1
            if not depth:
                return False
            at += 1
        return False

    def _enter_array(self, at: int) -> bool:
        at = self._skip(_SPACE, at)
        try:
            wanted = self._wanted(_parsed(self._data[at : self._end_of(at)]))
        except _Bad:
            return False
        if wanted:
            self._drop(at)
        return wanted

    def _leave(self) -> None:
        """Drop the rest of an object whose array was read."""
        depth = 1
        while depth:
            try:
                at = self._structure(0, 0)
            except _Bad:
                self._drop(len(self._data))
                return
            depth += 1 if self._data[at] in _OPENING else -1
            self._drop(at + 1)

    def _skip(self, what: re.Pattern[bytes], at: int, *, drop: bool = False) -> int:
        """The place of the first byte from ``at`` on that is not ``what``, or the end of all data."""
        while True:
            match = what.match(self._data, at)
            at = match.end() if match else at
            if drop:
                self._drop(at)
                at = 0
            if at < len(self._data) or not self._fill():
                return at

    def _fill(self) -> bool:
        if self._ended:
            return False
        try:
            more = self._stream.read(CHUNK_BYTES)
        except Exception as error:  # noqa: BLE001  # Whatever ends a stream ends it; the caller reports ``failure``.
            self.failure = error
            more = b""
        self._ended = not more
        self._data += more
        return bool(more)

    def _drop(self, count: int) -> None:
        self._lines += self._data.count(b"\n", 0, count)
        self._base += count
        del self._data[:count]

    def _place(self) -> tuple[int, int]:
        return self._lines + 1, self._base


def _parsed(raw: bytearray) -> dict[str, Any]:
    """An object out of its bytes; what is not UTF-8 becomes U+FFFD, and half surrogate pairs stay."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(raw.decode("utf-8", "replace"))
        except RecursionError:
            raise _Bad(Reason.TOO_DEEP, "nested too deeply") from None
        except ValueError as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else "a number is too long"
            raise _Bad(Reason.BROKEN_JSON, f"not valid JSON: {what}") from None
    if not isinstance(value, dict):
        raise _Bad(Reason.BROKEN_JSON, "there is something that is no object")
    return value
