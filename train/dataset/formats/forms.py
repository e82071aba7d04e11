"""From a row to prepared rows, by form (``columns``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from train.dataset.formats.chat import Chat, message_for
from train.dataset.formats.columns import FormName
from train.dataset.formats.encode import EncodeSettings, Talk, encode
from train.dataset.formats.unfit import Reason, Unfit
from train.dataset.rows import Message, Row

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One prepared row.

    Attributes:
        columns: as the form has them.
        tokens: how many there are; 0 where they are not known.
        learned: how many of them are learned from.
        answers: how many answers are.
    """

    columns: Json
    answers: int
    tokens: int = 0
    learned: int = 0


def records(row: Row, form: FormName, pairs: bool, chat: Chat | None, settings: EncodeSettings) -> list[Record]:
    """The prepared rows of a row.

    Args:
        chat: the model's; only the form ``chat`` does without.

    Raises:
        Unfit: there are none.
    """
    if chat is None:
        return [_chat_pair(row) if pairs else _chat(row)]
    if pairs:
        return [_pair(row, form, chat, settings)]
    return [
        Record(
            {
                "ids": [row.id],
                "input_ids": found.input_ids,
                "labels": found.labels,
                "seq_lengths": [len(found.input_ids)],
            }
            if form == "tokens"
            else {"id": row.id, "text": found.text},
            found.answers,
            len(found.input_ids),
            sum(found.learned),
        )
        for found in encode(row, chat, settings)
    ]


def _chat(row: Row) -> Record:
    answers = sum(message.role == "assistant" and message.weight != 0 for message in row.messages)
    if not answers:
        raise Unfit(Reason.NOTHING_LEARNED)
    return Record({"id": row.id, "messages": _dicts(row.messages), "tools": _tools(row)}, answers=answers)


def _chat_pair(row: Row) -> Record:
    chosen, rejected = _two_answers(row)
    said = {"prompt": row.messages[:-1], "chosen": [chosen], "rejected": [rejected]}
    parts = {name: _dicts(part) for name, part in said.items()}
    return Record({"id": row.id, **parts, "tools": _tools(row)}, answers=2)


def _pair(row: Row, form: FormName, chat: Chat, settings: EncodeSettings) -> Record:
    _, rejected = _two_answers(row)
    talk = Talk(row, chat, settings.system_prompt)
    place = len(talk.messages) - 1
    better, worse = talk.answer(place), talk.answer_with(message_for(rejected), place)
    prompt = better.text[: better.start]
    if worse.text[: worse.start] != prompt:
        # The template begins the two differently, so that they do not answer the same.
        raise Unfit(Reason.NO_PAIR)
    parts = {"prompt": prompt, "chosen": better.said, "rejected": worse.said}
    tokens = {f"{name}_ids": chat.tokens(text).ids for name, text in parts.items()}
    sizes = [len(ids) for ids in tokens.values()]
    if sizes[0] + max(sizes[1:]) > settings.max_tokens:
        raise Unfit(Reason.TOO_LONG)
    return Record({"id": row.id, **(tokens if form == "tokens" else parts)}, 2, sum(sizes), sum(sizes[1:]))


def _two_answers(row: Row) -> tuple[Message, Message]:
    """The last answer, and the one that it is better than."""
    chosen, rejected = row.messages[-1], row.rejected or ()
    if (
        chosen.role == "assistant"
        and len(rejected) == 1
        and rejected[0].role == "assistant"
        and chosen != rejected[0]
    ):
        return chosen, rejected[0]
    raise Unfit(Reason.NO_PAIR)


def _dicts(messages: Sequence[Message]) -> list[Json]:
    return [message.model_dump(mode="json") for message in messages]


def _tools(row: Row) -> str | None:
    """As JSON text, since functions have parameters of any shape, and a column has one."""
    return orjson.dumps(row.tools).decode() if row.tools else None
