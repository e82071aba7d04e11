"""What a validation found: what is in the file, and what is wrong with it, by line; never what was said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from train.dataset.rows import Message, Row
from train.dataset.validation.forms import Fault

Json = dict[str, Any]

MAX_LISTED = 100


@dataclass(frozen=True, slots=True)
class LineFault:
    """A fault and its line, from 1; no line where it is the file as a whole."""

    line: int | None
    field: str | None
    reason: str
    message: str

    def __str__(self) -> str:
        place = "" if self.line is None else f"line {self.line}: "
        return f"{place}{self.field or 'the example' if self.line else 'the file'}: {self.message} ({self.reason})"


@dataclass(slots=True)
class Found:
    """Faults of one kind, errors or warnings: the first ``most`` of them, and how many there are."""

    most: int
    total: int = 0
    listed: list[LineFault] = field(default_factory=list)

    def add(self, line: int | None, fault: Fault) -> None:
        """Count a fault, and keep it where there is room."""
        self.total += 1
        if len(self.listed) < self.most:
            self.listed.append(LineFault(line, fault.field, fault.reason, fault.message))

    def body(self) -> Json:
        """The faults as JSON."""
        return {"total": self.total, "listed": [asdict(one) for one in self.listed]}


@dataclass(slots=True)
class RoleCount:
    """Messages of one role, and the characters in them."""

    messages: int = 0
    characters: int = 0


@dataclass(slots=True)
class Statistics:
    """What the good examples hold.

    Attributes:
        lines: of the file, blank ones included.
        examples: that can be learned from.
        preferences: those of them that are pairs of answers.
        learned: messages of an assistant that are learned from: all but those of weight 0.
        characters: of everything that is said; ``longest`` is the most of one example.
        roles: the same by role, of both answers where there are two.
    """

    lines: int = 0
    examples: int = 0
    preferences: int = 0
    messages: int = 0
    learned: int = 0
    characters: int = 0
    longest: int = 0
    roles: dict[str, RoleCount] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Count an example."""
        size = 0
        for message in _messages(row):
            count = self.roles.setdefault(message.role, RoleCount())
            count.messages += 1
            count.characters += message.size
            size += message.size
            self.messages += 1
            self.learned += message.role == "assistant" and message.weight != 0
        self.examples += 1
        self.preferences += row.rejected is not None
        self.characters += size
        self.longest = max(self.longest, size)


def _messages(row: Row) -> Iterator[Message]:
    yield from row.messages
    yield from row.rejected or ()


@dataclass(frozen=True, slots=True)
class Validation:
    """The result for one file.

    Attributes:
        errors: what keeps the file from being learned from. warnings: what does not.
    """

    statistics: Statistics
    errors: Found
    warnings: Found

    @property
    def valid(self) -> bool:
        """Whether the whole file can be learned from."""
        return not self.errors.total

    def body(self) -> Json:
        """The result as JSON."""
        return {
            "valid": self.valid,
            **asdict(self.statistics),
            "errors": self.errors.body(),
            "warnings": self.warnings.body(),
        }

    def text(self) -> str:
        """The result for a person: every fault that is listed, then the numbers."""
        numbers = self.statistics
        lines = [f"error: {one}" for one in self.errors.listed] + [f"warning: {one}" for one in self.warnings.listed]
        for name, found in (("errors", self.errors), ("warnings", self.warnings)):
            if found.total > len(found.listed):
                lines.append(f"{name} that are not listed: {found.total - len(found.listed)}")
        roles = ", ".join(f"{role} {count.messages}" for role, count in sorted(numbers.roles.items()))
        lines.append(
            f"{'valid' if self.valid else 'not valid'}; lines: {numbers.lines}, examples: {numbers.examples}, pairs:"
            f" {numbers.preferences}, messages: {numbers.messages}" + (f" ({roles})" if roles else "")
        )
        lines.append(
            f"characters: {numbers.characters}, in the longest example: {numbers.longest}, messages learned from:"
            f" {numbers.learned}, errors: {self.errors.total}, warnings: {self.warnings.total}"
        )
        return "\n".join(lines)
