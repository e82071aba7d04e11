"""Alpaca: rows with ``instruction``, ``input`` and ``output``, and a ``history`` of earlier rounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from train.dataset.exports.problems import Reason, Unusable
from train.dataset.exports.reader import Draft, ReadOptions
from train.dataset.exports.turns import Turns
from train.dataset.exports.values import text_of
from train.dataset.rows import Message, SourceName

Json = dict[str, Any]


class Alpaca:
    """Reads rows in Alpaca's form, preferences (``chosen``, ``rejected``) included."""

    name: SourceName = "alpaca"

    def matches(self, value: Json) -> bool:
        """An ``instruction`` and an answer."""
        return "instruction" in value and ("output" in value or "chosen" in value)

    def read(self, value: Json, options: ReadOptions) -> Iterator[Draft]:
        """The one conversation: ``history``, then the instruction with its input, then the answer."""
        turns = Turns()
        if system := text_of(value.get("system")):
            turns.say("system", system)
        for asked, answered in _history(value.get("history")):
            turns.say("user", asked)
            turns.say("assistant", answered)
        parts = [text_of(value.get("instruction")), text_of(value.get("input"))]
        turns.say("user", "\n".join(part for part in parts if part.strip()))
        turns.say("assistant", text_of(value.get("output")) or text_of(value.get("chosen")))
        messages, _ = turns.finished()
        yield Draft(messages, rejected=_rejected(value), dropped=turns.dropped)


def _history(given: object) -> Iterator[tuple[str, str]]:
    if given is None or given == "":
        return
    if not isinstance(given, list) or any(not isinstance(round, list) or len(round) != 2 for round in given):
        raise Unusable(Reason.WRONG_VALUE, "history is not a list of pairs")
    for asked, answered in given:
        yield text_of(asked), text_of(answered)


def _rejected(value: Json) -> tuple[Message, ...]:
    text = text_of(value.get("rejected"))
    return (Message(role="assistant", content=text),) if text.strip() else ()
