"""Small synthetic exports after the vendors' documented forms; docs/exports.md says where each is documented."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.dataset.exports import Problem, Reading, ReadOptions, read_file
from train.dataset.rows import Row

Json = dict[str, Any]

T0 = 1_715_000_000.25


def chatgpt_node(
    id: str, parent: str | None, role: str | None = None, text: str | None = None, **message: Any
) -> dict[str, Json]:
    """A node of ``mapping``; without a role one without a message, as the root is."""
    if role is None:
        return {id: {"id": id, "message": None, "parent": parent, "children": []}}
    fields: Json = {
        "id": id,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": T0,
        "update_time": None,
        "content": {"content_type": "text", "parts": [text]},
        "status": "finished_successfully",
        "end_turn": None,
        "weight": 1.0,
        "metadata": {"model_slug": "gpt-4o"} if role == "assistant" else {},
        "recipient": "all",
        "channel": None,
    }
    return {id: {"id": id, "message": fields | message, "parent": parent, "children": []}}


def chatgpt(*nodes: dict[str, Json], id: str = "c1", current: str | None = None, **fields: Any) -> Json:
    """A conversation of ``conversations.json``."""
    mapping: Json = {}
    for node in nodes:
        mapping |= node
    for key, node in mapping.items():
        if node["parent"] in mapping:
            mapping[node["parent"]]["children"].append(key)
    return {
        "title": "Paris",
        "create_time": T0,
        "update_time": T0 + 60,
        "mapping": mapping,
        "moderation_results": [],
        "current_node": current or next(reversed(mapping)),
        "conversation_id": id,
        "id": id,
        "default_model_slug": "gpt-4o",
    } | fields


def chatgpt_chat(id: str = "c1", asked: str = "What is the capital of France?", said: str = "Paris.") -> Json:
    """The plainest conversation: a root, an empty system message, a question, an answer."""
    return chatgpt(
        chatgpt_node("root", None),
        chatgpt_node("s", "root", "system", ""),
        chatgpt_node("u", "s", "user", asked),
        chatgpt_node("a", "u", "assistant", said),
        id=id,
    )


def claude_message(id: str, sender: str, text: str = "", *blocks: Json, **fields: Any) -> Json:
    """A message of ``chat_messages``."""
    content = list(blocks) or [{"type": "text", "text": text, "citations": []}]
    return {
        "uuid": id,
        "text": text,
        "content": content,
        "sender": sender,
        "created_at": "2025-03-01T10:00:00.123456Z",
        "updated_at": "2025-03-01T10:00:00.123456Z",
        "attachments": [],
        "files": [],
    } | fields


def claude(*messages: Json, id: str = "k1", **fields: Any) -> Json:
    """A conversation of Claude's ``conversations.json``."""
    return {
        "uuid": id,
        "name": "Paris",
        "summary": "",
        "created_at": "2025-03-01T10:00:00.123456Z",
        "updated_at": "2025-03-01T10:05:00.123456Z",
        "account": {"uuid": "acc"},
        "chat_messages": list(messages)
        or [claude_message("m1", "human", "Capital of France?"), claude_message("m2", "assistant", "Paris.")],
    } | fields


def openwebui(messages: Mapping[str, Json] | None = None, current: str = "a", **fields: Any) -> Json:
    """A chat of Open WebUI's export."""
    tree = messages or {
        "u": {
            "id": "u",
            "parentId": None,
            "childrenIds": ["a"],
            "role": "user",
            "content": "Capital?",
            "timestamp": 1,
        },
        "a": {
            "id": "a",
            "parentId": "u",
            "childrenIds": [],
            "role": "assistant",
            "content": "Paris.",
            "model": "qwen3",
        },
    }
    chat = {
        "title": "Paris",
        "models": ["qwen3"],
        "history": {"messages": tree, "currentId": current},
        "messages": [],
    }
    return {"id": "w1", "user_id": "x", "title": "Paris", "chat": chat, "created_at": 1_715_000_000} | fields


PERPLEXITY_THREAD: Json = {
    "status": "success",
    "entries": [
        {
            "context_uuid": "p1",
            "thread_title": "Capital",
            "query_str": "Capital of France?",
            "display_model": "pplx_pro",
            "updated_datetime": "2026-02-06T22:37:20.123456",
            "blocks": [
                {"intended_usage": "plan", "plan_block": {"goals": []}},
                {"intended_usage": "ask_text", "markdown_block": {"answer": "Paris [1][2].", "chunks": ["Paris"]}},
            ],
        }
    ],
    "has_next_page": False,
}
PERPLEXITY_EXPORT: Json = {
    "conversations": [
        {
            "context_uuid": "p2",
            "context_title": "Capital",
            "created_at": "2025-05-01T10:00:00Z",
            "updated_at": "2025-05-01T10:01:00Z",
            "mode": "concise",
            "entries": [
                {"entry_uuid": "e", "query": "Capital of Italy?", "answer": "Rome.[1]", "label": "COMPLETED"}
            ],
        }
    ]
}
PERPLEXITY_PAGE = """<img src="https://r2cdn.perplexity.ai/pplx-full-logo-primary-dark%402x.png" style="height:64px"/>

# Capital of France?

Paris is the capital.[^1_1]

---

# Not a question, but a heading of the answer

It lies on the Seine.
<span style="display:none">[^1_2]</span>

<div align="center">⁂</div>

[^1_1]: https://example.org/paris

[^1_2]: https://example.org/seine


---

# And of Italy?

Rome.[^2_1]

<div align="center">⁂</div>

[^2_1]: https://example.org/rome
"""
PERPLEXPORT = """---
URL: https://www.perplexity.ai/search/capital-abc123
Last updated: 2026-02-06T22:37:20
---

# Me

Capital of France?

---

# Perplexity

Paris.

## 1 Sources

- [Paris](https://example.org) (example.org)

---

# Me

Sure?

---

# Perplexity

Yes.
"""
PPLXPORT = """---
title: Capital
date: 2026-01-01
source: https://www.perplexity.ai/search/capital-def456
---

**User:** Capital of France?

---

**Assistant:** Paris [1].

### Sources
[1] https://example.org
"""
SHAREGPT: Json = {
    "id": "identity_0",
    "conversations": [{"from": "human", "value": "Capital of France?"}, {"from": "gpt", "value": "Paris."}],
}
ALPACA: Json = {"instruction": "Name the capital.", "input": "France", "output": "Paris."}
OPENAI: Json = {"messages": [{"role": "user", "content": "Capital?"}, {"role": "assistant", "content": "Paris."}]}
GROUP: Json = {
    "id": "chatcmpl-1",
    "object": "conversation",
    "created": 1_715_000_000,
    "model": "qwen3-8b",
    "request": {"model": "auto", "messages": [{"role": "user", "content": "Capital?"}]},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "London."}, "finish_reason": "stop"}],
}


def write(path: Path, content: object) -> str:
    """Write JSON, text or bytes; gives the path as the command line would."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def zipped(members: Mapping[str, object]) -> bytes:
    """An archive of members that are JSON, text or bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content if isinstance(content, str | bytes) else json.dumps(content))
    return packed.getvalue()


def events(path: str, *, every_branch: bool = False, keep_hidden: bool = False) -> tuple[list[Row], list[Problem]]:
    """The rows and the problems of a file."""
    reading = Reading(options=ReadOptions(every_branch=every_branch, keep_hidden=keep_hidden))
    found = list(read_file(path, reading))
    return [one for one in found if isinstance(one, Row)], [one for one in found if isinstance(one, Problem)]


def said(row: Row) -> list[tuple[str, str | None]]:
    """What a row says, and who says it."""
    return [(message.role, message.content) for message in row.messages]
