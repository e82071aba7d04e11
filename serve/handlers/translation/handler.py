"""The addresses of the translation task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import quote

from starlette.types import Scope, Send

from serve.errors import GroupQwenError, InvalidRequest, PayloadTooLarge
from serve.handlers.translation.answers import TranslationEncoder, events, model_of, translation_body, usage_of
from serve.handlers.translation.checks import Terms
from serve.handlers.translation.detect import detect
from serve.handlers.translation.languages import AUTO, Language, find_language, languages
from serve.handlers.translation.memory import Memory
from serve.handlers.translation.plan import Plan
from serve.handlers.translation.prompts import family_of
from serve.handlers.translation.run import Translation, translating
from serve.handlers.translation.source import source_of
from serve.handlers.translation.upload import Upload, read_upload
from serve.handlers.translation.window import Window
from serve.protocol.chat import ChatCollector, ChatEncoder
from serve.protocol.http import header, send_bytes, send_json
from serve.protocol.requests import AUTO as ANY_MODEL
from serve.protocol.requests import ChatRequest
from serve.protocol.translation import DetectRequest, TranslateRequest
from serve.protocol.validation import parse_json, parse_request
from serve.replica.answers import USAGE_HEADER, send_stream, send_whole
from serve.replica.asgi import signed
from serve.settings.translation import TranslationUserConfig
from serve.tasks.base import TaskHandler, TaskRoute

logger = logging.getLogger(__name__)

#: Most characters of the terms, and of the memory, of a request: every piece is compared with all of them.
_PAIR_CHARS = 1_000_000


class TranslationHandler(TaskHandler):
    """Languages, detection, translation."""

    def routes(self) -> Sequence[TaskRoute]:
        """What clients ask at the gateway's same addresses."""
        return (
            TaskRoute("POST", "/v1/translate", self._translate),
            TaskRoute("POST", "/v1/chat/completions", self._chat),
            TaskRoute("POST", "/v1/detect", self._detect),
            TaskRoute("GET", "/v1/languages", self._languages),
        )

    async def load(self) -> None:
        """Read the detector's model."""
        await asyncio.to_thread(detect, "The first text takes longest.")

    async def _languages(self, scope: Scope, body: bytes, send: Send) -> None:
        await send_json(send, {"object": "list", "data": [one.body() for one in languages().values()]})

    async def _detect(self, scope: Scope, body: bytes, send: Send) -> None:
        request = parse_request(DetectRequest, parse_json(body))
        found = await asyncio.to_thread(lambda: [detect(text) for text in request.texts])
        data = [one.body(index, request.alternatives) for index, one in enumerate(found)]
        await send_json(send, {"object": "detection", "data": data})

    async def _translate(self, scope: Scope, body: bytes, send: Send) -> None:
        if (header(scope, b"content-type") or b"").startswith(b"multipart/form-data"):
            upload = await read_upload(scope, body, self._behaviour.file_bytes)
            await self._answer_file(upload, send)
            return
        request = parse_request(TranslateRequest, parse_json(body))
        async with self._translating(request) as (target, model, translations):
            if request.stream:
                encoder = TranslationEncoder(translations, target, model)
                await send_stream(send, events(translations), encoder, _uncounted)
                return
            texts = await asyncio.gather(*(one.whole() for one in translations))
            await send_json(send, translation_body(translations, texts, target, model))

    async def _answer_file(self, upload: Upload, send: Send) -> None:
        async with self._translating(upload.request) as (target, model, translations):
            [one] = translations
            text = await one.whole()
            if not upload.as_file:
                body = translation_body(translations, [text], target, model)
                await send_json(send, {**body, "filename": upload.named(target.code)})
                return
            usage = usage_of(translations)
            name = quote(upload.named(target.code))
            headers = [
                (b"content-disposition", f"attachment; filename*=UTF-8''{name}".encode()),
                (USAGE_HEADER, b"%d %d" % (usage.prompt_tokens, usage.completion_tokens)),
                (b"x-groupqwen-violations", str(len(one.report.violations)).encode()),
                (b"x-groupqwen-failed", str(one.report.failed).encode()),
            ]
            await send_bytes(send, text.encode(), content_type=upload.media_type, headers=headers)

    async def _chat(self, scope: Scope, body: bytes, send: Send) -> None:
        """A chat completion with ``translation_options``, by the model that it names."""
        request = parse_request(ChatRequest, parse_json(body))
        options = request.translation_options
        if options is None:
            raise InvalidRequest("translation_options: this field is required.", param="translation_options")
        if request.n > 1 or request.tools or request.messages[0].images():
            raise InvalidRequest(
                "A translation has one choice, no tools and no pictures.", param="translation_options"
            )
        fields = options.model_dump()
        # A chat completion has no place to say that a part of it failed.
        asked = TranslateRequest(text=request.messages[0].text(), model=request.model, strict=True, **fields)
        async with self._translating(asked) as (_, model, translations):
            written = signed(send, model_of(translations, model))
            if request.stream:
                wants_usage = request.stream_options is not None and request.stream_options.include_usage
                await send_stream(written, events(translations), ChatEncoder(model, 1, wants_usage), _uncounted)
            else:
                await send_whole(written, events(translations), ChatCollector(model), _uncounted)

    @asynccontextmanager
    async def _translating(self, request: TranslateRequest) -> AsyncIterator[tuple[Language, str, list[Translation]]]:
        """The target language, who is asked, and the texts of a request under way."""
        behaviour = self._behaviour
        _check(request, behaviour)
        target = find_language(request.target_lang, "target_lang")
        if request.source_lang.strip().lower() != AUTO:
            find_language(request.source_lang, "source_lang")
        sources = await asyncio.to_thread(
            lambda: [source_of(text, request.format, request.source_lang, target) for text in request.texts]
        )
        model = request.model or behaviour.model
        plan = Plan(
            target=target,
            model=model,
            family=family_of(model, behaviour),
            window=Window(await self._context(model)),
            terms=Terms(request.terms),
            memory=await asyncio.to_thread(Memory, request.tm_list),
            domains=request.domains,
            strict=request.strict,
            behaviour=behaviour,
        )
        async with translating(sources, self.group, plan) as translations:
            yield target, model, translations

    async def _context(self, model: str) -> int | None:
        """Tokens that the context of ``model`` holds; none where nobody says. Any of those that chat may answer for
        ``auto``, so it is that of the smallest."""
        try:
            if model == ANY_MODEL:
                about = [one for one in await self.group.models() if (one.get("capabilities") or {}).get("chat")]
            else:
                about = [await self.group.model(model)]
        except GroupQwenError as error:
            if error.status == InvalidRequest.status or error.status == 404:
                raise
            return None
        return min((one["context"] for one in about if isinstance(one.get("context"), int)), default=None)

    @property
    def _behaviour(self) -> TranslationUserConfig:
        return cast(TranslationUserConfig, self.behaviour)


def _check(request: TranslateRequest, behaviour: TranslationUserConfig) -> None:
    """Refuse more than may be asked at once."""
    if len(request.texts) > behaviour.max_texts:
        raise InvalidRequest(
            f"text: {len(request.texts)} texts; the most allowed is {behaviour.max_texts}.", param="text"
        )
    size = sum(map(len, request.texts))
    if size > behaviour.max_chars:
        raise PayloadTooLarge(f"text: {size} characters; the most allowed is {behaviour.max_chars}.", param="text")
    for param, pairs in (("terms", request.terms), ("tm_list", request.tm_list)):
        size = sum(len(pair.source) + len(pair.target) for pair in pairs)
        if size > _PAIR_CHARS:
            raise PayloadTooLarge(f"{param}: {size} characters; the most allowed is {_PAIR_CHARS}.", param=param)


def _uncounted(usage: object) -> None:
    """The gateway counts a task's tokens, by the end of its answer."""
