"""Holds a file to the forms that training reads, line by line."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from pydantic import ValidationError

from train.dataset.exports.files import Reading, read_value
from train.dataset.exports.frames import Broken, Frames
from train.dataset.exports.problems import Place, Problem, Reason
from train.dataset.exports.registry import Readers
from train.dataset.rows import Row, content_digest
from train.dataset.validation.forms import Fault, PreferencePair, faults_in, faults_of, form_of, ignored_keys
from train.dataset.validation.lines import MAX_LINE_BYTES, SeenExamples
from train.dataset.validation.report import MAX_LISTED, Found, Statistics, Validation

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_ROW_KEYS = frozenset({"id", "source", "messages", "provenance"})
_READING = Reading(readers=Readers("openai"))
_FORMS = (
    "must be an object with `messages`, or with `input`, `preferred_output` and `non_preferred_output`, or a row of"
    " this group"
)


def validate(lines: Iterable[bytes], *, most: int = MAX_LINE_BYTES, listed: int = MAX_LISTED) -> Validation:
    """Hold the lines of a file to the forms that training reads.

    Each line is an example of OpenAI's chat form or preference form (``train.dataset.validation.forms``), or a row
    (``train.dataset.rows``). What passes is what the readers of ``train.dataset.exports`` make rows of.

    Args:
        lines: the file, with or without line ends, as ``lines_of`` gives it.
        most: bytes of the longest line.
        listed: how many errors, and how many warnings, are listed; all are counted.
    """
    return _Check(most, listed).run(lines)


class _Unusable(Exception):
    """The rest of the file need not be read."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class _Check:
    """One validation under way."""

    def __init__(self, most: int, listed: int) -> None:
        self._most = most
        self._errors = Found(listed)
        self._warnings = Found(listed)
        self._statistics = Statistics()
        self._begun = False  # A line was seen that is not blank.

    def run(self, lines: Iterable[bytes]) -> Validation:
        """The whole file."""
        number = 0
        with SeenExamples() as seen:
            for number, line in enumerate(lines, start=1):
                try:
                    self._line(line, number, seen)
                except _Unusable as stop:
                    self._errors.add(number, stop.fault)
                    break
        self._statistics.lines = number
        if not self._begun:
            self._errors.add(None, Fault(None, "empty", "there is no example in it"))
        elif not self._errors.total and not self._statistics.learned:
            message = "nothing in it is learned from: every answer has weight 0"
            self._errors.add(None, Fault(None, "nothing_learned", message))
        if 0 < self._statistics.preferences < self._statistics.examples:
            message = "some examples are pairs of answers and some are not; only one kind is used in a training"
            self._warnings.add(None, Fault(None, "mixed_forms", message))
        return Validation(self._statistics, self._errors, self._warnings)

    def _line(self, line: bytes, number: int, seen: SeenExamples) -> None:
        if number == 1 and line.startswith(_BOM):
            line = line[len(_BOM) :]
            self._warnings.add(1, Fault(None, "byte_order_mark", "begins with a byte order mark, which is skipped"))
        text = line.strip(b" \t\r\n")
        if not text:
            self._warnings.add(number, Fault(None, "blank_line", "is blank, and skipped"))
            return
        if not self._begun:
            self._begun = True
            _check_beginning(text)
        row: Row | None = None
        for found in self._examine(text, number):
            if isinstance(found, Row):
                row = found
            else:
                self._errors.add(number, found)
        if row is not None:
            self._statistics.add(row)
            self._compare(row, number, seen)

    def _compare(self, row: Row, number: int, seen: SeenExamples) -> None:
        """Warn of what says the same: as an earlier line, or as the other answer."""
        first = seen.add(content_digest(row.messages, row.tools or (), row.rejected or ()), number)
        if first is not None:
            self._warnings.add(number, Fault(None, "duplicate", f"says the same as line {first}"))
        if row.rejected and row.rejected == row.messages[-len(row.rejected) :]:
            self._warnings.add(number, Fault(None, "same_answers", "both answers are the same; nothing is preferred"))

    def _examine(self, text: bytes, number: int) -> Iterator[Fault | Row]:
        """What is wrong with a line, or else its row."""
        if len(text) > self._most:
            yield Fault(None, "too_large", f"has more than {self._most} bytes, the most that a line may have")
            return
        if _is_too_deep(text):
            message = f"is nested deeper than {_READING.depth} levels, the most that a line may have"
            yield Fault(None, "too_deep", message)
            return
        value = _parsed(text)
        if isinstance(value, Fault):
            yield value
        elif not isinstance(value, dict):
            yield Fault(None, "not_an_object", _FORMS)
        elif value.keys() >= _ROW_KEYS:
            yield from _row(text)
        else:
            yield from self._example(value, number)

    def _example(self, value: dict[str, Any], number: int) -> Iterator[Fault | Row]:
        form = form_of(value)
        if form is None:
            yield Fault(None, "unknown_form", _FORMS)
            return
        faults = list(faults_in(value, form))
        yield from faults
        if faults:
            return
        for key in ignored_keys(value, form):
            self._warnings.add(number, Fault(key, "ignored_key", "nothing reads this key"))
        for event in read_value(value, Place("", number=number), _READING):
            if isinstance(event, Problem):
                yield Fault(_MESSAGES[form is PreferencePair], str(event.reason), event.detail)
                continue
            for kind, count in (event.provenance.dropped or {}).items():
                message = f"reading it leaves out {count} of the kind {kind}"
                self._warnings.add(number, Fault(_MESSAGES[form is PreferencePair], "left_out", message))
            yield event


#: Where the messages are, of a chat and of a pair.
_MESSAGES = ("messages", "input.messages")


def _check_beginning(text: bytes) -> None:
    """Stop at files that are no JSONL at all, where each line would be a fault."""
    if text.startswith(_UTF16):
        raise _Unusable(Fault(None, "not_utf8", "is encoded as UTF-16; must be UTF-8"))
    if text.startswith(b"["):
        raise _Unusable(Fault(None, "json_array", "a JSON array begins here; must be JSONL, one object on each line"))


def _is_too_deep(text: bytes) -> bool:
    """Whether the readers refuse the object that a line holds because of its depth."""
    if not text.startswith(b"{") or text.count(b"{") + text.count(b"[") <= _READING.depth:
        return False
    first = next(iter(Frames(io.BytesIO(text), lambda value: False, deepest=_READING.depth)), None)
    return isinstance(first, Broken) and first.reason is Reason.TOO_DEEP


def _parsed(text: bytes) -> object:
    """A line as JSON, or what keeps it from being that."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            text.decode()
        except UnicodeDecodeError as broken:
            return Fault(None, "not_utf8", f"byte {broken.start + 1} is not UTF-8")
        return Fault(None, "broken_json", f"not valid JSON at character {error.pos + 1}: {error.msg}")


def _row(text: bytes) -> Iterator[Fault | Row]:
    """A row of this group."""
    try:
        yield Row.from_json(text)
    except ValidationError as error:
        yield from faults_of(error, Row)
