"""The pictures of a chat request, for handlers of models that see."""

from __future__ import annotations

from collections.abc import Sequence

from serve.errors import InvalidRequest
from serve.protocol.requests import ImagePart, Message


def image_parts(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """The address of every picture, in order, with its field in the request."""
    return [
        (part.image_url.url, f"messages[{place}].content[{number}]")
        for place, message in enumerate(messages)
        for number, part in enumerate(message.content if isinstance(message.content, list) else ())
        if isinstance(part, ImagePart)
    ]


def check_count(parts: Sequence[tuple[str, str]], most: int) -> None:
    """See that a request has no more pictures than its model takes; 0 where the model sees none.

    Raises:
        InvalidRequest: names the first that is too many.
    """
    if len(parts) <= most:
        return
    what = f"This model takes at most {most} images a request." if most else "This model cannot see images."
    raise InvalidRequest(what, param=parts[most][1])
