"""Translations on the wire: one object, or a stream of chunks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from serve.handlers.translation.languages import Language
from serve.handlers.translation.run import Translation
from serve.protocol.chat import new_id, usage_body
from serve.protocol.events import Delta, Event, Usage
from serve.protocol.sse import frame

Json = dict[str, Any]

#: A gateway takes a stream in which nothing comes for long for a lost one.
SIGN_SECONDS = 20.0
_SIGN = b": working\n\n"


def usage_of(translations: Sequence[Translation]) -> Usage:
    """What the translations took, all together."""
    used = [one.report.usage for one in translations]
    return Usage(sum(one.prompt_tokens for one in used), sum(one.completion_tokens for one in used))


def model_of(translations: Sequence[Translation], asked: str) -> str:
    """Who translated; who was asked, where nothing had to be."""
    return next((one.report.model for one in translations if one.report.model), asked)


def translation_body(translations: Sequence[Translation], texts: Sequence[str], target: Language, model: str) -> Json:
    """The whole answer of ``/v1/translate``."""
    return {
        **_head("translation", target, model_of(translations, model)),
        "translations": [
            {"index": index, "text": text, **outcome(one)}
            for index, (one, text) in enumerate(zip(translations, texts, strict=True))
        ],
        "usage": usage_body(usage_of(translations)),
    }


def outcome(one: Translation) -> Json:
    """What became of one text."""
    language = one.source.language
    notes = [*one.source.notes]
    if one.report.pieced:
        notes.append(f"{one.report.pieced} passages were translated between what is kept, because it was lost else")
    return {
        "source_lang": language.code if language else None,
        "source_confidence": None if one.source.confidence is None else round(one.source.confidence, 4),
        "violations": one.report.violations,
        "notes": notes,
    }


async def events(translations: Sequence[Translation]) -> AsyncGenerator[Sequence[Event], None]:
    """The parts of every text, one text after the other, and the token counts at the end; an empty part as a sign of
    life where a model takes long."""
    for index, one in enumerate(translations):
        async with aclosing(_with_signs(one.parts())) as parts:
            async for part in parts:
                yield (Delta(index=index, text=part),)
        yield (Delta(index=index, finish_reason="stop"),)
    yield (usage_of(translations),)


async def _with_signs(parts: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """The parts that are not empty, and an empty one whenever none has come for ``SIGN_SECONDS``."""
    async with aclosing(parts):
        while True:
            coming = asyncio.ensure_future(anext(parts, None))
            try:
                while not (await asyncio.wait({coming}, timeout=SIGN_SECONDS))[0]:
                    yield ""
            finally:
                if not coming.done():
                    coming.cancel()
                    await asyncio.wait({coming})
            if (part := coming.result()) is None:
                return
            if part:
                yield part


class TranslationEncoder:
    """Writes the events of translations as finished SSE frames."""

    def __init__(self, translations: Sequence[Translation], target: Language, model: str) -> None:
        self._translations = translations
        self._model = model
        self._head = _head("translation.chunk", target, model)

    def frames(self, ready: Sequence[Event]) -> bytes:
        """The frames of some events; a text's last one says what became of it."""
        return b"".join(self._frame(event) for event in ready if isinstance(event, Delta))

    def _frame(self, event: Delta) -> bytes:
        if not event.text and event.finish_reason is None:
            return _SIGN
        body: Json = {**self._head, "index": event.index, "text": event.text, "finish_reason": event.finish_reason}
        if event.finish_reason is not None:
            one = self._translations[event.index]
            body |= {"model": model_of([one], self._model), **outcome(one)}
        return frame(body)

    def end(self) -> bytes:
        """A frame with the usage."""
        return frame({**self._head, "usage": usage_body(usage_of(self._translations))})


def _head(object: str, target: Language, model: str) -> Json:
    return {
        "id": new_id("trans"),
        "object": object,
        "created": int(time.time()),
        "model": model,
        "target_lang": target.code,
    }
