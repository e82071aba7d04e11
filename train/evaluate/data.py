"""What an evaluation reads: conversations, prompts and questions, each fault with its file and line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from serve.settings.errors import SettingsError
from train.dataset.rows import Row, content_digest
from train.evaluate.settings import Task
from train.finetune.data import DataError, conversations

Json = dict[str, Any]

#: What each kind of task needs beside the question.
_NEEDED = {"exact": "answer", "contains": "answer", "regex": "pattern", "json_schema": "schema", "judge": "reference"}
_WORD = re.compile(r"[^\W\d_][\w'-]{3,}")
_SENTENCE_END = re.compile(r"[.!?:\n\"]\s*$")


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a task.

    Attributes:
        right: what the kind of the task needs to judge an answer.
        where: file and line, for messages.
    """

    messages: list[Json]
    right: Any
    where: str


def rows_of(files: Sequence[str], split: str, most: int | None = None) -> list[Row]:
    """The conversations in files, and in this split of curated sets, the first ``most`` of them, each once.

    Raises:
        SettingsError: a file cannot be read, or a line is no conversation.
    """
    found: dict[str, Row] = {}
    try:
        for row in conversations(files, split):
            found.setdefault(content_digest(row.messages), row)
            if most is not None and len(found) >= most:
                break
    except DataError as error:
        raise SettingsError(str(error)) from None
    return list(found.values())


def prompts_of(file: str) -> list[str]:
    """The prompts in a file, one a line; blank lines and those that begin with ``#`` are passed over.

    Raises:
        SettingsError: it cannot be read, or has none.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file}: cannot be read as text ({type(error).__name__})") from None
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not prompts:
        raise SettingsError(f"{file}: has no prompt")
    return prompts


def questions_of(task: Task) -> list[Question]:
    """The questions of a task.

    Raises:
        SettingsError: the file cannot be read, or a line is no question of the task's kind.
    """
    try:
        lines = Path(task.file).read_bytes().splitlines()
    except OSError as error:
        raise SettingsError(f"{task.file}: cannot be read ({error.strerror})") from None
    found = [
        _question(line, task, f"{task.file}: line {number}") for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not found:
        raise SettingsError(f"{task.file}: has no question")
    return found


def _question(line: bytes, task: Task, where: str) -> Question:
    try:
        raw = orjson.loads(line)
    except orjson.JSONDecodeError:
        raw = None
    if not isinstance(raw, dict):
        raise SettingsError(f"{where}: is not a JSON object")
    needed = _NEEDED[task.kind]
    if needed not in raw:
        raise SettingsError(f"{where}: {needed} is missing, which the kind {task.kind} needs")
    messages = raw.get("messages")
    if isinstance(raw.get("prompt"), str) and raw["prompt"].strip():
        messages = [{"role": "user", "content": raw["prompt"]}]
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise SettingsError(f"{where}: needs a prompt, or messages with role and content")
    _check_right(raw[needed], task, f"{where}: {needed}")
    return Question(messages, raw[needed], where)


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def _check_right(right: object, task: Task, where: str) -> None:
    if task.kind in ("exact", "contains"):
        answers = right if isinstance(right, list) else [right]
        if not answers or not all(isinstance(one, str) and one.strip() for one in answers):
            raise SettingsError(f"{where}: must be a text, or a list of texts")
    elif task.kind == "json_schema":
        from jsonschema import SchemaError
        from jsonschema.validators import validator_for

        if not isinstance(right, dict):
            raise SettingsError(f"{where}: must be a JSON schema")
        try:
            validator_for(right).check_schema(right)
        except SchemaError as error:
            raise SettingsError(f"{where}: is no JSON schema: {error.message[:200]}") from None
    elif not isinstance(right, str) or not right.strip():
        raise SettingsError(f"{where}: must be a text")
    elif task.kind == "regex":
        try:
            re.compile(right)
        except re.error as error:
            raise SettingsError(f"{where}: is not a regular expression: {error}") from None


def names_in(texts: Iterable[str]) -> set[str]:
    """The words in texts that look like names: capitalized where no sentence begins."""
    return {word for text in texts for word in _names(text)}


def _names(text: str) -> Iterator[str]:
    for found in _WORD.finditer(text):
        before = text[: found.start()]
        if found[0][0].isupper() and before.strip() and not _SENTENCE_END.search(before):
            yield found[0]


def words_in(text: str) -> set[str]:
    """Every word of a text."""
    return set(_WORD.findall(text))
