"""What a request is like, read once from its JSON; anything malformed counts as absent and is refused later."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_CODE = re.compile(
    r"```|#include\b|\bc\+\+"
    # Bounded, since each of these words begins a search of its own.
    r"|\b(?:def|class|import|return|function|const|var|SELECT)\b[^.!?\n]{0,200}[\(\{;:=]"
    r"|\b(?:python|javascript|typescript|java|rust|golang|sql|bash|regex|html|css|json|yaml)\b"
    r"|\b(?:code|program|script|function|method|algorithm|compile|debug|refactor|unit tests?|traceback)\b",
    re.IGNORECASE,
)
#: Only the beginning of a long message is searched for code; that bounds the time of a decision.
_SEARCHED_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class Features:
    """What the policy looks at.

    Attributes:
        last_user_text: the text of the last user message.
        prompt_chars: characters of text in all messages.
        messages: how many there are.
    """

    last_user_text: str
    prompt_chars: int
    messages: int
    code: bool
    tools: bool
    structured_output: bool
    vision: bool


def features_of(request: dict[str, Any]) -> Features:
    """The features of a chat or completion request."""
    raw = request.get("messages")
    messages = [message for message in raw if isinstance(message, dict)] if isinstance(raw, list) else []
    texts = [_text(message.get("content")) for message in messages]
    if isinstance(request.get("prompt"), str):
        texts.append(request["prompt"])
    users = [text for message, text in zip(messages, texts, strict=False) if message.get("role") == "user"]
    last = users[-1] if users else texts[-1] if texts else ""
    wanted = request.get("response_format")
    return Features(
        last_user_text=last,
        prompt_chars=sum(map(len, texts)),
        messages=len(messages),
        code=_CODE.search(last[:_SEARCHED_CHARS]) is not None,
        tools=bool(request.get("tools")),
        structured_output=isinstance(wanted, dict) and wanted.get("type") in ("json_object", "json_schema"),
        vision=any(_has_image(message.get("content")) for message in messages),
    )


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return ""


def _has_image(content: object) -> bool:
    return isinstance(content, list) and any(isinstance(p, dict) and p.get("type") == "image_url" for p in content)
