"""Conversations that are too short or too long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from serve.settings.errors import SettingsError
from train.dataset.curate.base import Context, Count, RowStep
from train.dataset.curate.outcome import KEPT, Dropped, Outcome, RowFunction, learned
from train.dataset.rows import Message, Row


class Length(RowStep):
    """Bounds of a conversation; a bound that is null is none.

    Attributes:
        messages_min, messages_max: messages, those of system and tools included.
        chars_min, chars_max: characters of all messages.
        answer_chars_min, answer_chars_max: characters of each answer that is learned from; an answer that calls
            tools is not held to the lower one.
        tokens_max: tokens of all messages; the template's own tokens are not counted.
        tokenizer: a ``tokenizer.json``, or a folder with one.
    """

    step: Literal["length"] = "length"
    messages_min: Count | None = 2
    messages_max: Count | None = 400
    chars_min: Count | None = 10
    chars_max: Count | None = 400_000
    answer_chars_min: Count | None = 1
    answer_chars_max: Count | None = 100_000
    tokens_max: Count | None = None
    tokenizer: str | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for what in ("messages", "chars", "answer_chars"):
            least, most = getattr(self, f"{what}_min"), getattr(self, f"{what}_max")
            if least is not None and most is not None and least > most:
                raise ValueError(f"{what}_min is above {what}_max, so no row would be left")
        if (self.tokens_max is None) != (self.tokenizer is None):
            raise ValueError("tokens_max and tokenizer need each other")
        return self

    def files(self, context: Context) -> list[Path]:
        """The tokenizer."""
        if self.tokenizer is None:
            return []
        path = context.folder / self.tokenizer
        return [path / "tokenizer.json" if path.is_dir() else path]

    def build(self, context: Context) -> RowFunction:
        """Drop what is out of bounds."""
        tokens = _counter(self.files(context)[0]) if self.tokenizer else None

        def judge(row: Row) -> Outcome:
            reason = self._fault(row) or next(filter(None, map(self._answer_fault, row.messages)), None)
            if reason is None and tokens is not None and self.tokens_max is not None:
                reason = "too_many_tokens" if sum(map(tokens, row.messages)) > self.tokens_max else None
            return KEPT if reason is None else Dropped(reason)

        return judge

    def _fault(self, row: Row) -> str | None:
        chars = sum(message.size for message in row.messages)
        if _below(len(row.messages), self.messages_min):
            return "too_few_messages"
        if _above(len(row.messages), self.messages_max):
            return "too_many_messages"
        if _below(chars, self.chars_min):
            return "too_short"
        return "too_long" if _above(chars, self.chars_max) else None

    def _answer_fault(self, message: Message) -> str | None:
        if not learned(message):
            return None
        if _below(len((message.content or "").strip()), self.answer_chars_min) and not message.tool_calls:
            return "short_answer"
        return "long_answer" if _above(message.size, self.answer_chars_max) else None


def _below(count: int, least: int | None) -> bool:
    return least is not None and count < least


def _above(count: int, most: int | None) -> bool:
    return most is not None and count > most


def _counter(path: Path) -> Callable[[Message], int]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise SettingsError(f"tokenizer: {path} cannot be read as a tokenizer.json") from error

    def count(message: Message) -> int:
        texts = [message.content or "", message.reasoning_content or ""]
        texts += [call.function.arguments for call in message.tool_calls or ()]
        return sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts if text)

    return count
