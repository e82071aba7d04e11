"""Tool calls as Qwen's models write them, in the form of Hermes:
``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection

from serve.handlers.llamacpp.text import overlap
from serve.protocol.events import ToolCallDelta

OPEN = "<tool_call>"
CLOSE = "</tool_call>"


class ToolCallParser:
    """Takes the calls out of text that comes in pieces.

    A call is passed on when it is whole and right: an object with the name of a known function and an object of
    arguments. Anything else between the marks is given back as the text that it was. White space next to a call
    is dropped.

    Args:
        names: the functions that may be called.
        one: whether to stop behind the first call.
    """

    def __init__(self, names: Collection[str], *, one: bool = False) -> None:
        self._names = names
        self._one = one
        self._held = ""
        self._inside = False
        self._gap = ""  # white space in front of the call that is being read
        self._searched = 0  # where in the held call to look on for its end
        self._after_call = False
        self.calls = 0

    @property
    def done(self) -> bool:
        """Whether the one call that was wanted is there; what comes after it is dropped."""
        return self._one and self.calls > 0

    def feed(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """The text that belongs to no call, and the calls that are now whole."""
        self._held += text
        texts: list[str] = []
        calls: list[ToolCallDelta] = []
        more = True
        while more and not self.done:
            more = self._read_call(texts, calls) if self._inside else self._read_text(texts)
        return "".join(texts), tuple(calls)

    def flush(self) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """What was held back, when no more text comes. A whole call counts without its end mark."""
        held, self._held = self._held, ""
        if self.done:
            return "", ()
        if not self._inside:
            return held, ()
        self._inside = False
        if call := self._parsed(held):
            return "", (call,)
        return self._gap + OPEN + held, ()

    def _read_text(self, texts: list[str]) -> bool:
        """Pass text on up to the next call; True when one begins."""
        if self._after_call:
            self._held = self._held.lstrip()
            self._after_call = not self._held
        start = self._held.find(OPEN)
        end = start if start >= 0 else len(self._held) - overlap(self._held, OPEN)
        text = self._held[:end].rstrip()
        if text:
            texts.append(text)
        if start < 0:
            self._held = self._held[len(text) :]
            return False
        self._gap = self._held[len(text) : end]
        self._held = self._held[end + len(OPEN) :]
        self._inside, self._searched = True, 0
        return True

    def _read_call(self, texts: list[str], calls: list[ToolCallDelta]) -> bool:
        """Take the call that has begun, if its end is there; True when it is."""
        end = self._held.find(CLOSE, self._searched)
        if end < 0:
            self._searched = max(self._searched, len(self._held) - len(CLOSE) + 1)
            return False
        body = self._held[:end]
        if _ends_in_string(body):  # the mark is part of an argument
            self._searched = end + len(CLOSE)
            return True
        self._held = self._held[end + len(CLOSE) :]
        self._inside = False
        if call := self._parsed(body):
            calls.append(call)
            self._after_call = True
        else:
            texts.append(self._gap + OPEN + body + CLOSE)
        return True

    def _parsed(self, body: str) -> ToolCallDelta | None:
        try:
            call = json.loads(body, strict=False, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return None
        match call:
            case {"name": str(name), "arguments": dict(arguments)} if name in self._names:
                self.calls += 1
                call_id = f"call_{secrets.token_hex(12)}"
                return ToolCallDelta(self.calls - 1, call_id, name, _to_json(arguments))
        return None


def _ends_in_string(text: str) -> bool:
    """Whether a JSON string is still open at the end of ``text``."""
    try:
        json.loads(text, strict=False)
    except json.JSONDecodeError as failure:
        return failure.msg.startswith("Unterminated string")
    except (ValueError, RecursionError):
        return False
    return False


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _to_json(arguments: dict[str, object]) -> str:
    text = json.dumps(arguments, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and UTF-8 cannot
        return json.dumps(arguments)
    return text
