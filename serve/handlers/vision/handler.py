"""``POST /v1/vision/analyze``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Scope, Send

from serve.errors import InvalidRequest, Unavailable
from serve.handlers.vision.annotate import annotated, sheet_of
from serve.handlers.vision.answers import entries_of, json_of
from serve.handlers.vision.confidence import Tokens
from serve.handlers.vision.places import Place, places_in
from serve.handlers.vision.prompts import EACH, format_for, prompt_for
from serve.handlers.vision.requests import Asked, check_count, read_request
from serve.pictures.resize import View, prepare, view_of
from serve.pictures.room import PictureRoom
from serve.pictures.sources import Found, Pages, Pictures, data_url
from serve.protocol.http import send_json
from serve.protocol.requests import AUTO, split_model
from serve.protocol.vision import AnalyzeRequest
from serve.settings.base import Settings
from serve.settings.pictures import PictureGrid
from serve.settings.task import TaskSettings
from serve.settings.vision import VisionUserConfig
from serve.tasks.base import TaskHandler, TaskRoute
from serve.tasks.client import GroupClient

Json = dict[str, Any]
T = TypeVar("T")

PATH = "/v1/vision/analyze"
#: States in which a model will not say any more what it can do.
_NEVER = frozenset({"failed", "deleting"})


@dataclass(frozen=True, slots=True)
class Seer:
    """The model that looks.

    Attributes:
        name: what it is asked by. grid: how it sees pictures; none where that is not known.
        bound: whether its answers can be bound to a form. sure: whether it says how likely its tokens are.
    """

    name: str
    grid: PictureGrid | None
    bound: bool
    sure: bool


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One picture of a request.

    Attributes:
        source: which of the request's sources it is from. page: of a PDF.
        view: how the model sees it. url: what the model gets.
        sheet: the file that is to be drawn on, where that is wanted.
    """

    source: int
    page: int | None
    view: View
    url: str
    sheet: bytes | None

    def body(self, index: int) -> Json:
        """What the answer says of it."""
        width, height = self.view.original
        page = {} if self.page is None else {"page": self.page}
        seen = dict(zip(("width", "height"), self.view.seen, strict=True))
        return {"index": index, "source": self.source, **page, "width": width, "height": height, "seen": seen}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, and the chat completion that it is from.

    Attributes:
        tokens: that it was written in.
    """

    text: str
    tokens: Tokens
    cut_off: bool
    whole: Json


class VisionHandler(TaskHandler):
    """Pictures, and what a model of the group sees in them."""

    def __init__(self, settings: TaskSettings, group: GroupClient, behaviour: Settings) -> None:
        super().__init__(settings, group, behaviour)
        self._room = PictureRoom()

    def routes(self) -> Sequence[TaskRoute]:
        """What clients ask at the gateway's same address."""
        return (TaskRoute("POST", PATH, self._analyze),)

    async def _analyze(self, scope: Scope, body: bytes, send: Send) -> None:
        behaviour = self.behaviour
        assert isinstance(behaviour, VisionUserConfig)
        asked = await read_request(scope, body, behaviour.images)
        seer = await self._seer(asked.request, behaviour)
        pictures = await self._see(asked, seer, behaviour)
        if asked.request.task == "compare" and len(pictures) < 2:
            raise InvalidRequest("images: comparing needs at least two pictures.", param="images")
        groups = [[one] for one in pictures] if asked.request.task in EACH else [pictures]
        turns = asyncio.Semaphore(behaviour.parallel)
        answers = await _together([self._ask(asked.request, seer, group, behaviour, turns) for group in groups])
        await send_json(send, await asyncio.to_thread(_body, asked.request, seer, pictures, answers))

    async def _seer(self, request: AnalyzeRequest, behaviour: VisionUserConfig) -> Seer:
        """The model that a request names, or the config, or the first that sees.

        Raises:
            InvalidRequest: it does not see, or cannot point where it is to. Unavailable: it has not said so yet.
        """
        name = request.model or behaviour.model
        about = await self._first() if name == AUTO else await self.group.model(split_model(name)[0])
        name = about["id"] if name == AUTO else name
        can = about.get("capabilities") or {}
        if not can:
            raise Unavailable(
                f"The model {name!r} sleeps or starts and has not said yet what it can do; a chat with it wakes it.",
                retry_after=5,
            )
        if not can.get("vision"):
            raise InvalidRequest(f"The model {name!r} cannot see pictures.", param="model")
        told = about.get("pictures")
        grid = behaviour.grids.get(about["id"]) or (PictureGrid(**told) if told else None)
        if grid is None and request.task == "locate":
            raise InvalidRequest(
                f"The model {name!r} does not say how it points into pictures; the vision task's user_config can,"
                " under grids.",
                param="model",
            )
        return Seer(name, grid, bool(can.get("structured_output")), bool(can.get("logprobs")))

    async def _first(self) -> Json:
        models = [one for one in await self.group.models() if one["id"] != AUTO]
        seeing = [one for one in models if (one.get("capabilities") or {}).get("vision")]
        if seeing:
            return min(seeing, key=lambda one: one.get("state") != "ready")
        silent = [one["id"] for one in models if not one.get("capabilities") and one.get("state") not in _NEVER]
        if silent:
            raise Unavailable(
                "No model is known to see pictures, and these sleep or start and have not said yet what they can do:"
                f" {', '.join(silent)}. A chat with one wakes it.",
                retry_after=5,
            )
        raise InvalidRequest("No model of this group can see pictures; see docs/vision.md.", param="model")

    async def _see(self, asked: Asked, seer: Seer, behaviour: VisionUserConfig) -> list[Seen]:
        """The request's pictures, prepared for the model."""
        reader = Pictures(behaviour.pictures, self._room)
        pages, draws = Pages(asked.request.pages, behaviour.images), asked.request.annotate
        found = await reader.read_each(asked.sources, asked.params, lambda one: _seen(one, seer.grid, draws), pages)
        check_count(len(found), behaviour.images)
        if asked.request.pages and all(one.page is None for one in found):
            raise InvalidRequest("pages: this is for PDF files, and there is none.", param="pages")
        return found

    async def _ask(
        self,
        request: AnalyzeRequest,
        seer: Seer,
        pictures: Sequence[Seen],
        behaviour: VisionUserConfig,
        turns: asyncio.Semaphore,
    ) -> Answer:
        """Ask the model once, about one picture or all."""
        parts: list[Json] = [{"type": "image_url", "image_url": {"url": one.url}} for one in pictures]
        parts.append({"type": "text", "text": prompt_for(request, pictures[0].view, seer.grid)})
        body: Json = {
            "model": seer.name,
            "messages": [{"role": "user", "content": parts}],
            "max_tokens": request.max_tokens or behaviour.max_tokens,
        }
        if request.task != "describe" and request.task != "compare":
            body["temperature"] = 0
        if seer.bound and (form := format_for(request, seer.grid)):
            body["response_format"] = form
        if seer.sure and seer.grid and request.task in EACH:
            body["logprobs"] = True
        async with turns:
            whole = await self.group.chat(body, seconds=behaviour.timeout)
        choice = whole["choices"][0]
        text = choice["message"]["content"] or ""
        return Answer(text, Tokens(text, choice.get("logprobs")), choice["finish_reason"] == "length", whole)


async def _together(work: Sequence[Awaitable[T]]) -> list[T]:
    """What all give, in order; when one fails, the others are stopped."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _seen(found: Found, grid: PictureGrid | None, draws: bool) -> Seen:
    view = view_of(*found.picture.size, grid)
    url = data_url(prepare(found.picture, view))
    return Seen(found.source, found.page, view, url, sheet_of(found.picture) if draws else None)


def _body(request: AnalyzeRequest, seer: Seer, pictures: Sequence[Seen], answers: Sequence[Answer]) -> Json:
    """The whole answer. Draws where that is wanted, so it is for a thread."""
    found: Json = {
        "object": "vision.analysis",
        "task": request.task,
        "model": answers[0].whole["model"],
        "text": "\n\n".join(one.text for one in answers),
        "images": [one.body(index) for index, one in enumerate(pictures)],
    }
    if request.task == "extract":
        found["data"] = json_of(answers[0].text)
    elif request.task in EACH and seer.grid is not None:
        found |= _places(request, seer.grid, pictures, answers)
    found["truncated"] = any(one.cut_off for one in answers)
    usages = [one.whole["usage"] for one in answers]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    found["usage"] = {name: sum(one[name] for one in usages) for name in names}
    return found


def _places(request: AnalyzeRequest, grid: PictureGrid, pictures: Sequence[Seen], answers: Sequence[Answer]) -> Json:
    """What the model pointed to in each picture, and the pictures with it drawn on."""
    bodies: list[Json] = []
    drawn: list[str] = []
    for index, (one, answer) in enumerate(zip(pictures, answers, strict=True)):
        places = places_in(
            [(entry.item, answer.tokens.confidence(entry)) for entry in entries_of(answer.text)], one.view, grid
        )
        bodies += [_place_body(index, place, request) for place in places]
        if one.sheet is not None:
            drawn.append(annotated(one.sheet, one.view.original, places))
    name = "lines" if request.task == "ocr" else "points" if request.mark == "points" else "objects"
    read = {"text": "\n".join(body["text"] for body in bodies)} if request.task == "ocr" and bodies else {}
    return {**read, name: bodies, **({"annotated": drawn} if request.annotate else {})}


def _place_body(index: int, place: Place, request: AnalyzeRequest) -> Json:
    said = "text" if request.task == "ocr" else "label"
    boxed = place.is_box and request.mark == "boxes"
    at = {"box": place.at, "center": place.center} if boxed else {"point": place.center}
    return {"image": index, said: place.label, **at, "raw": place.raw, "confidence": place.confidence}
