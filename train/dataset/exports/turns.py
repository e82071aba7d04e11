"""Puts what an export holds into OpenAI's chat form: roles that take turns, tool calls with their answers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from train.dataset.rows import FunctionCall, Message, Role, ToolCall

IMAGE = "[image]"
AUDIO = "[audio]"
VIDEO = "[video]"

_NAME = re.compile(r"[^a-zA-Z0-9_-]+")


def file_mark(name: str | None) -> str:
    """What stands for an attached file."""
    return f"[file: {name}]" if name else "[file]"


@dataclass(slots=True)
class _Turn:
    role: Role
    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    call_id: str | None = None
    name: str | None = None
    weight: Literal[0, 1] | None = None
    time: datetime | None = None
    went_on: bool = False  # Text came after the calls.

    @property
    def silent(self) -> bool:
        return not (self.texts or self.calls) and self.role != "tool"

    def takes(self, other: _Turn) -> bool:
        """Whether ``other``, which comes right after, is part of the same turn."""
        if self.role != other.role or self.role not in ("user", "assistant"):
            return False
        return (self.name, self.weight) == (other.name, other.weight)

    def absorb(self, other: _Turn) -> None:
        """Take up what ``other`` says."""
        self.went_on = self.went_on or bool(self.calls and other.texts)
        self.texts += other.texts
        self.reasoning += other.reasoning
        self.calls += other.calls

    def message(self) -> Message:
        """The turn as a message."""
        text = "\n\n".join(self.texts)
        return Message(
            role=self.role,
            content=text if text or self.role == "tool" else None,
            reasoning_content="\n\n".join(self.reasoning) or None,
            name=self.name,
            tool_calls=tuple(self.calls) or None,
            tool_call_id=self.call_id,
            weight=self.weight,
        )


class Turns:
    """A conversation as it is put together; texts are clean already (``values.text_of``).

    Messages of one side in a row become one. What OpenAI's form has no place for is left out and counted in
    ``dropped``: a system message after the beginning, a tool's answer to nothing, a call that was never answered.
    """

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self._turns: list[_Turn] = []
        self._call_ids: set[str] = set()
        self._latest: dict[str, str] = {}

    def say(
        self,
        role: Literal["system", "developer", "user", "assistant"],
        text: str,
        *,
        time: datetime | None = None,
        reasoning: str = "",
        name: str | None = None,
        weight: Literal[0, 1] | None = None,
    ) -> None:
        """Add text, and for an assistant what it thought before."""
        if role in ("system", "developer") and any(turn.role not in ("system", "developer") for turn in self._turns):
            self.dropped["late_system_message"] += 1
            return
        turn = _Turn(role, time=time, name=name, weight=weight)
        turn.texts = [text.strip("\n")] if text.strip() else []
        turn.reasoning = [reasoning.strip()] if reasoning.strip() else []
        if turn.silent and not turn.reasoning:
            self.dropped["empty_message"] += 1
            return
        self._add(turn)

    def call(self, id: str, name: str, arguments: str, *, time: datetime | None = None) -> None:
        """Add a call; its id is made another where it was used before."""
        unique = id
        while unique in self._call_ids:
            unique += "_"
        self._call_ids.add(unique)
        self._latest[id] = unique
        function = FunctionCall(name=_NAME.sub("_", name)[:64] or "tool", arguments=arguments)
        last = self._turns[-1] if self._turns else None
        if last is not None and last.role == "assistant":
            last.calls.append(ToolCall(id=unique, function=function))
        else:
            self._add(_Turn("assistant", calls=[ToolCall(id=unique, function=function)], time=time))

    def answer(
        self, text: str, *, call_id: str | None = None, name: str | None = None, time: datetime | None = None
    ) -> None:
        """Add a tool's answer, to the call of that id, else the latest one of that name, else the latest one.

        Where that call has an answer, this one goes on with it.
        """
        call = self._wanted(call_id, name)
        if call is None:
            self.dropped["answer_without_call"] += 1
            return
        for turn in reversed(self._turns):
            if turn.call_id == call.id:
                turn.texts += [text] if text else []
                return
        self._turns.append(_Turn("tool", [text] if text else [], call_id=call.id, time=time))

    def finished(self) -> tuple[tuple[Message, ...], tuple[datetime | None, ...]]:
        """The messages, and when each was sent."""
        answered = {turn.call_id for turn in self._turns}
        end = len(self._turns) - 1
        kept: list[_Turn] = []
        for index, turn in enumerate(self._turns):
            # A conversation that ends in calls is whole: nothing more was asked of the model.
            ends = index == end and not turn.went_on
            calls = turn.calls if ends else [call for call in turn.calls if call.id in answered]
            self.dropped["call_without_answer"] += len(turn.calls) - len(calls)
            turn.calls = calls
            if turn.silent:
                self.dropped["reasoning_without_answer"] += bool(turn.reasoning)
            elif kept and kept[-1].takes(turn):
                kept[-1].absorb(turn)
            else:
                kept.append(turn)
        self.dropped = +self.dropped
        return tuple(turn.message() for turn in kept), tuple(turn.time for turn in kept)

    def _add(self, turn: _Turn) -> None:
        if self._turns and self._turns[-1].takes(turn):
            self._turns[-1].absorb(turn)
        else:
            self._turns.append(turn)

    def _wanted(self, call_id: str | None, name: str | None) -> ToolCall | None:
        """The call that an answer belongs to: of the turn of calls that is still going on."""
        recent: list[ToolCall] = []
        for turn in reversed(self._turns):
            if turn.role == "assistant" and turn.calls:
                recent = turn.calls
                break
            if turn.role != "tool":
                return None
        if call_id is not None:
            return next((call for call in recent if call.id == self._latest.get(call_id)), None)
        named = [call for call in recent if name is not None and call.function.name == _NAME.sub("_", name)[:64]]
        return named[-1] if named else recent[-1] if recent else None
