"""ShareGPT: rows with ``conversations``, each turn with ``from`` and ``value``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from serve.store.values import clean_json
from train.dataset.exports.problems import Reason, Unusable
from train.dataset.exports.reader import Draft, ReadOptions
from train.dataset.exports.turns import Turns
from train.dataset.exports.values import moment, name_of, record, records, text_of
from train.dataset.rows import Message, SourceName

Json = dict[str, Any]

_KEYS = ("conversations", "conversation", "items", "messages")
_SIDES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
    "function_call": "call",
    "observation": "answer",
    "tool": "answer",
    "function_response": "answer",
}


class ShareGPT:
    """Reads rows in ShareGPT's form, tools and preferences included."""

    name: SourceName = "sharegpt"

    def matches(self, value: Json) -> bool:
        """A list of turns with ``from`` and ``value``."""
        return any("from" in turn and "value" in turn for turn in records(_turns(value)))

    def read(self, value: Json, options: ReadOptions) -> Iterator[Draft]:
        """The one conversation; ``chosen`` ends it where there is one, and ``rejected`` is the worse answer."""
        given = _turns(value)
        if not isinstance(given, list):
            raise Unusable(Reason.WRONG_VALUE, "there is no list of turns")
        turns = Turns()
        if system := text_of(value.get("system")):
            turns.say("system", system)
        _add_all(turns, [*given, *_answer(value, "chosen")])
        messages, _ = turns.finished()
        yield Draft(
            messages,
            title=name_of(value.get("title")),
            created_at=moment(value.get("created_at")) or moment(value.get("timestamp")),
            models=tuple(filter(None, [name_of(value.get("model"))])),
            tools=_tools(value.get("tools")),
            rejected=_rejected(value),
            dropped=turns.dropped,
        )


def _turns(value: Json) -> object:
    return next((value[key] for key in _KEYS if isinstance(value.get(key), list)), None)


def _answer(value: Json, key: str) -> list[Json]:
    answer = value.get(key)
    if isinstance(answer, str):
        return [{"from": "gpt", "value": answer}]
    return [record(answer)] if answer else []


def _add_all(turns: Turns, given: list[Any]) -> None:
    for number, turn in enumerate(given):
        side = _SIDES.get(text_of(record(turn).get("from")).lower())
        if side is None:
            raise Unusable(Reason.BAD_MESSAGE, f"each turn is an object with 'from', one of {', '.join(_SIDES)}")
        text = text_of(turn.get("value"))
        if side == "call":
            for name, arguments in _calls(text):
                turns.call(f"call_{number}_{name}", name, arguments)
        elif side == "answer":
            turns.answer(text)
        else:
            turns.say(side, text)  # type: ignore[arg-type]  # call and answer are taken above


def _calls(text: str) -> Iterator[tuple[str, str]]:
    """The calls of a ``function_call`` turn: one object, or a list of them."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Unusable(Reason.BAD_MESSAGE, "a function_call is not JSON") from None
    for call in records(given if isinstance(given, list) else [given]):
        arguments = call.get("arguments", {})
        yield (
            name_of(call.get("name")) or "tool",
            text_of(arguments) if isinstance(arguments, str) else orjson.dumps(arguments).decode(),
        )


def _tools(given: object) -> tuple[Json, ...]:
    """The functions on offer, which are often JSON inside a string."""
    if isinstance(given, str):
        try:
            given = orjson.loads(given) if given.strip() else []
        except orjson.JSONDecodeError:
            raise Unusable(Reason.WRONG_VALUE, "tools is not JSON") from None
    clean = [record(clean_json(tool, "tools")) for tool in records(given)]
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in clean)


def _rejected(value: Json) -> tuple[Message, ...]:
    turns = Turns()
    _add_all(turns, _answer(value, "rejected"))
    return turns.finished()[0]
