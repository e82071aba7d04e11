"""What a step does with a row: keep it as it is, change it, or drop it; both latter with their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from train.dataset.rows import Message, Row

#: What happens to a conversation of which an answer is at fault.
OnMatch = Literal["mask", "drop"]


@dataclass(frozen=True, slots=True)
class Kept:
    """The row stays as it is."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Another row takes its place; ``reasons`` counts the changes by kind."""

    row: Row
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Dropped:
    """The row is not part of the set."""

    reason: str


Outcome = Kept | Changed | Dropped
RowFunction = Callable[[Row], Outcome]

KEPT = Kept()


def judge_answers(row: Row, fault: Callable[[int, Message], str | None], on_match: OnMatch) -> Outcome:
    """Look for faults in the answers that are learned from.

    An answer at fault becomes context only (``weight`` 0) with ``mask``, so that the good answers around it are not
    lost. The row is dropped with ``drop``, when no answer is left to learn from, and when the better one of two
    answers (``rejected``) is the one at fault.

    Args:
        row: the conversation.
        fault: why the answer at a place among the messages is at fault, or none.
        on_match: what to do then.
    """
    found: Counter[str] = Counter()
    messages = list(row.messages)
    for index, message in enumerate(messages):
        reason = fault(index, message) if learned(message) else None
        if reason is None:
            continue
        if on_match == "drop" or (row.rejected and index == len(messages) - 1):
            return Dropped(reason)
        found[reason] += 1
        messages[index] = message.model_copy(update={"weight": 0})
    if not found:
        return KEPT
    if not any(map(learned, messages)):
        return Dropped(found.most_common(1)[0][0])
    return Changed(row.model_copy(update={"messages": tuple(messages)}), found)


def learned(message: Message) -> bool:
    """Whether a message is an answer that is learned from."""
    return message.role == "assistant" and message.weight != 0
