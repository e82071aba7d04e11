"""Rows for tests of formats."""

from __future__ import annotations

import json
from typing import Any

from train.dataset.rows import Message, Provenance, Row

Json = dict[str, Any]


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def answer(text: str | None = None, **fields: Any) -> Json:
    return {"role": "assistant", "content": text, **fields}


def call(name: str, arguments: str = "{}", *, id: str = "c1") -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(text: str, *, id: str = "c1") -> Json:
    return {"role": "tool", "tool_call_id": id, "content": text}


def row(*messages: Json, id: str = "openai:1", provenance: Json | None = None, **fields: Any) -> Row:
    """A row with these messages."""
    body = {"id": id, "source": "openai", "messages": messages, "provenance": provenance or {}, **fields}
    return Row.model_validate_json(json.dumps(body))


def chat(id: str = "openai:1", **fields: Any) -> Row:
    """A question and its answer."""
    return row(user("Capital of France?"), answer("Paris."), id=id, **fields)


def message(**fields: Any) -> Message:
    return Message.model_validate_json(json.dumps(fields))


def provenance(**fields: Any) -> Provenance:
    return Provenance.model_validate_json(json.dumps(fields))
