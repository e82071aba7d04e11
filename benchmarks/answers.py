"""Checks streamed chat completions: every token there, an end mark, no error in place of either."""

from __future__ import annotations

from typing import Any

import orjson

from serve.protocol.sse import FrameReader

_SHOWN = 200


class BadAnswer(Exception):
    """An answer is incomplete, or is an error; the message says what is wrong with it."""


class AnswerCheck:
    """Checks whole answers against the text that they must have.

    The frames of one answer repeat a head with its id and its time. An answer that equals a checked one but for that
    head is right too, which spares the machine, busy with the servers, from parsing every frame of every answer.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._checked: dict[bytes, int] = {}

    def frames(self, body: bytes) -> int:
        """How many frames with content ``body`` has.

        Raises:
            BadAnswer: it is not the whole answer.
        """
        head, found, _ = body.partition(b'"choices"')
        same = body.replace(head, b"head ") if head and found else body
        if same not in self._checked:
            self._checked[same] = _frames(body, self._text)
        return self._checked[same]


def _frames(body: bytes, wanted: str) -> int:
    said: list[str] = []
    finished = done = False
    for data in FrameReader().feed(body):
        if data == b"[DONE]":
            done = True
            continue
        if done:
            raise BadAnswer("something comes after [DONE]")
        for choice in _choices(data):
            if content := choice["delta"].get("content"):
                said.append(content)
            finished = finished or choice.get("finish_reason") is not None
    text = "".join(said)
    if text != wanted:
        raise BadAnswer(
            f"the answer has {len(text)} of {len(wanted)} characters in {len(said)} frames"
            f"{'' if done else ', and no [DONE]'}"
        )
    if not finished:
        raise BadAnswer("no frame has a finish_reason")
    if not done:
        raise BadAnswer("the stream ends without [DONE]")
    return len(said)


def _choices(data: bytes) -> list[dict[str, Any]]:
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadAnswer(f"a frame is no JSON: {data[:_SHOWN]!r}") from None
    if "error" in event:
        raise BadAnswer(f"the stream holds an error: {orjson.dumps(event['error']).decode()[:_SHOWN]}")
    choices: list[dict[str, Any]] = event.get("choices") or []
    return choices
