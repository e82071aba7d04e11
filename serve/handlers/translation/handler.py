"""The addresses of the translation task."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.types import Scope, Send

from serve.handlers.translation.detect import detect
from serve.handlers.translation.languages import languages
from serve.protocol.http import send_json
from serve.protocol.translation import DetectRequest
from serve.protocol.validation import parse_json, parse_request
from serve.tasks.base import TaskHandler, TaskRoute


class TranslationHandler(TaskHandler):
    """Languages, detection, translation."""

    def routes(self) -> Sequence[TaskRoute]:
        """What clients ask at the gateway's same addresses."""
        return (
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
