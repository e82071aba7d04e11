"""A conversation as text that a person can edit, and back."""

from __future__ import annotations

import re

from pydantic import ValidationError

from train.dataset.exports.files import broken_rule
from train.dataset.rows import Message, Row


class EditError(Exception):
    """The text cannot be read back; the message is one line for the reviewer."""


def to_text(row: Row) -> str:
    """Each message under a line with its number and role. The line's marks are longer than any that was said."""
    mark = _mark(row)
    return "".join(
        f"{mark} {number} {message.role} {mark}\n{message.content or ''}\n"
        for number, message in enumerate(row.messages, start=1)
    )


def from_text(text: str, row: Row) -> Row:
    """``row`` with the contents of ``text``; messages that are no longer in it are removed.

    Raises:
        EditError: a heading is not one of ``to_text``'s, the order changed, or the row would break a rule of rows.
    """
    mark = re.escape(_mark(row))
    pieces = re.split(rf"^{mark} (\d+) (\w+) {mark}[ \t]*$\n?", text, flags=re.MULTILINE)
    if pieces[0].strip():
        raise EditError("there is text above the first heading")
    places = [int(number) - 1 for number in pieces[1::3]]
    if places != sorted(set(places)) or not all(0 <= place < len(row.messages) for place in places):
        raise EditError("headings were added, repeated or moved; they can only be removed with their messages")
    changes: dict[str, object] = {}
    try:
        changes["messages"] = tuple(
            _edited(row.messages[place], content) for place, content in zip(places, pieces[3::3], strict=True)
        )
        if row.provenance.times is not None:
            times = tuple(row.provenance.times[place] for place in places)
            changes["provenance"] = row.provenance.model_copy(update={"times": times})
        return Row.model_validate({**dict(row), **changes})
    except ValidationError as error:
        _, detail = broken_rule(error)
        raise EditError(f"that is no conversation any more: {detail}") from None


def _edited(message: Message, content: str) -> Message:
    text = content.removesuffix("\n")
    if text == (message.content or ""):
        return message
    return Message.model_validate({**dict(message), "content": text})


def _mark(row: Row) -> str:
    said = "\n".join(message.content or "" for message in row.messages)
    longest = max(map(len, re.findall(r"^=+", said, re.MULTILINE)), default=0)
    return "=" * max(3, longest + 1)
