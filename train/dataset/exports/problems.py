"""What can be wrong with an export: where, why, and never what was said."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why a conversation, a file or a member of an archive is not among the rows."""

    # A conversation.
    BROKEN_JSON = "broken_json"
    CUT_OFF = "cut_off"
    UNKNOWN_SHAPE = "unknown_shape"
    WRONG_VALUE = "wrong_value"
    BROKEN_TREE = "broken_tree"
    TOO_DEEP = "too_deep"
    TOO_LARGE = "too_large"
    EMPTY = "empty"
    NO_ANSWER = "no_answer"
    BAD_ROLES = "bad_roles"
    BAD_TOOL_CALLS = "bad_tool_calls"
    BAD_MESSAGE = "bad_message"
    MESSAGE_SIZE = "message_size"
    ROW_SIZE = "row_size"
    # A file.
    UNREADABLE = "unreadable"
    NOT_RECOGNISED = "not_recognised"
    # An archive or a member of one.
    BAD_ZIP = "bad_zip"
    ZIP_LIMIT = "zip_limit"
    UNSAFE_NAME = "unsafe_name"
    ENCRYPTED = "encrypted"
    DUPLICATE_NAME = "duplicate_name"
    NESTED_ARCHIVE = "nested_archive"
    NOT_CONVERSATIONS = "not_conversations"

    @property
    def fault(self) -> bool:
        """Whether something is wrong, rather than not meant to become a row. ``--strict`` stops at faults."""
        return self not in _NO_FAULTS


# A chat that was opened and left, an uploaded archive, a profile picture: every export has them.
_NO_FAULTS = (Reason.EMPTY, Reason.NO_ANSWER, Reason.NESTED_ARCHIVE, Reason.NOT_CONVERSATIONS)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is.

    Attributes:
        file: the input as it was named; empty for the database.
        member: the file inside an archive.
        number: which conversation, from 1.
        line, byte: where it begins in the file or member, the line from 1 and the byte from 0.
    """

    file: str
    member: str | None = None
    number: int | None = None
    line: int | None = None
    byte: int | None = None

    def __str__(self) -> str:
        file = plain(self.file) or "the database"
        text = printable(file if self.member is None else f"{file}!{self.member}")
        if self.number is not None:
            text += f", conversation {self.number}"
        if self.byte is not None:
            text += f" (line {self.line}, byte {self.byte})"
        elif self.line is not None:
            text += f", line {self.line}"
        return text


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that did not become a row."""

    place: Place
    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}: {self.detail}"

    def body(self) -> dict[str, Any]:
        """The problem as JSON."""
        place = {name: value for name, value in asdict(self.place).items() if value is not None}
        return {**place, "file": plain(self.place.file), "reason": str(self.reason), "detail": self.detail}


class Unusable(Exception):
    """What was read cannot become a row; the detail never shows what was said."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def plain(file: str) -> str:
    """A file's name as text that can be encoded: bytes in it that are not UTF-8 become ``\\xff``."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")


def printable(name: str) -> str:
    """A name out of a file, safe to print: what steers a terminal is escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)
