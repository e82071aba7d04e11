"""Rows for the tests of duplicates."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

Json = dict[str, Any]
WORDS = [
    f"{first}{second}" for first in ("ba", "ko", "mi", "tu", "re", "so") for second in ("la", "n", "rd", "st", "vik")
]


def chat(id: str, question: str, answer: str = "Yes.", **more: Any) -> Json:
    """A row as JSON has it."""
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": id, "source": "openai", "messages": messages, "provenance": {}, **more}


def prose(seed: int, words: int = 80) -> str:
    """Words by chance, the same for the same seed."""
    chance = random.Random(seed)
    return " ".join(chance.choice(WORDS) + str(chance.randrange(50)) for _ in range(words))


def edited(text: str, edits: int, seed: int = 0) -> str:
    """The text with some of its words replaced."""
    chance, words = random.Random(seed), text.split()
    for place in chance.sample(range(len(words)), edits):
        words[place] = f"new{seed}x{place}"
    return " ".join(words)


def write(path: Path, rows: Sequence[Json]) -> Path:
    """A file of rows."""
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    return path
