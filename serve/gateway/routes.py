"""Every address of the gateway in one table: what serves it, and what its reference says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.gateway.conversations import ConversationQuery, Conversations, FeedbackRequest, MetadataRequest
from serve.gateway.files import FileQuery, Files
from serve.gateway.fine_tuning import FineTuningJobs
from serve.gateway.fine_tuning.requests import CheckpointQuery, EventQuery, FineTuningRequest, JobQuery, LogQuery
from serve.gateway.health import Health
from serve.gateway.inference import CHAT, COMPLETION, EMBEDDING, Inference
from serve.gateway.models import Models
from serve.gateway.tasks import Tasks
from serve.gateway.upload import FileUpload
from serve.gateway.websocket import ChatSocket
from serve.protocol.http import Routes
from serve.protocol.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from serve.protocol.translation import DetectRequest, TranslateRequest
from serve.protocol.vision import AnalyzeRequest

if TYPE_CHECKING:  # It is made from the operations here.
    from serve.gateway.reference import Reference

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Where fine-tuning jobs are.
JOBS = "/v1/fine_tuning/jobs"
#: Where many chats share one socket.
CHAT_SOCKET = "/v1/chat/stream"


@dataclass(frozen=True)
class Operation:
    """One address and method.

    Attributes:
        endpoint: finds what serves it among the gateway's parts.
        summary: what it does, for the reference.
        answer: what comes back, for the reference.
        body: the request body's type. query: the type of its query parameters.
        stream: whether it can answer with server-sent events.
        body_type, answer_type: the media types.
    """

    method: str
    path: str
    endpoint: Callable[[Parts], Endpoint]
    summary: str
    answer: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    stream: bool = False
    body_type: str = "application/json"
    answer_type: str = "application/json"


@dataclass(frozen=True)
class Parts:
    """The objects whose methods are the endpoints."""

    inference: Inference
    models: Models
    conversations: Conversations
    files: Files
    jobs: FineTuningJobs
    tasks: Tasks
    health: Health
    reference: Reference


#: Every HTTP operation.
OPERATIONS = (
    Operation(
        "POST",
        CHAT.path,
        lambda to: to.inference.endpoint(CHAT),
        "Answer a conversation. `model` is an id, `id:adapter` or `auto`. `store: true` keeps request and answer.",
        "`chat.completion`, or a stream of `chat.completion.chunk`",
        body=ChatRequest,
        stream=True,
    ),
    Operation(
        "POST",
        COMPLETION.path,
        lambda to: to.inference.endpoint(COMPLETION),
        "Continue a text.",
        "`text_completion`, or a stream of the same",
        body=CompletionRequest,
        stream=True,
    ),
    Operation(
        "POST",
        EMBEDDING.path,
        lambda to: to.inference.endpoint(EMBEDDING),
        "Turn texts into vectors.",
        "`list` of `embedding`",
        body=EmbeddingRequest,
    ),
    Operation(
        "GET",
        "/v1/models",
        lambda to: to.models.list,
        "List the group's models with their state.",
        "`list` of `model`",
    ),
    Operation(
        "POST",
        "/v1/translate",
        lambda to: to.tasks.endpoint("translation", "POST", "/v1/translate"),
        "Translate texts, or an uploaded file (`multipart/form-data`), and keep their form.",
        "`translation`, a stream of `translation.chunk`, or the translated file",
        body=TranslateRequest,
        stream=True,
    ),
    Operation(
        "POST",
        "/v1/detect",
        lambda to: to.tasks.endpoint("translation", "POST", "/v1/detect"),
        "Say which languages texts are in.",
        "`detection`",
        body=DetectRequest,
    ),
    Operation(
        "GET",
        "/v1/languages",
        lambda to: to.tasks.endpoint("translation", "GET", "/v1/languages"),
        "List the languages that can be translated.",
        "`list` of `language`",
    ),
    Operation(
        "POST",
        "/v1/vision/analyze",
        lambda to: to.tasks.endpoint("vision", "POST", "/v1/vision/analyze"),
        "Describe, read, search, compare pictures or extract data from them; also as `multipart/form-data`.",
        "`vision.analysis`, with places in the caller's own pixels",
        body=AnalyzeRequest,
    ),
    Operation("GET", "/v1/models/{model}", lambda to: to.models.get, "Get one model.", "`model`"),
    Operation(
        "GET",
        "/v1/conversations",
        lambda to: to.conversations.list,
        "List stored conversations, newest first. `metadata[key]=value` filters by metadata.",
        "`list` of `conversation`",
        query=ConversationQuery,
    ),
    Operation(
        "GET",
        "/v1/conversations/{id}",
        lambda to: to.conversations.get,
        "Get a stored conversation and its feedback.",
        "`conversation`",
    ),
    Operation(
        "POST",
        "/v1/conversations/{id}",
        lambda to: to.conversations.update,
        "Replace the metadata of a stored conversation.",
        "`conversation`",
        body=MetadataRequest,
    ),
    Operation(
        "DELETE",
        "/v1/conversations/{id}",
        lambda to: to.conversations.delete,
        "Delete a stored conversation and its feedback.",
        "`conversation.deleted`",
    ),
    Operation(
        "POST",
        "/v1/feedback",
        lambda to: to.conversations.add_feedback,
        "Rate or correct a stored answer.",
        "`feedback`",
        body=FeedbackRequest,
    ),
    Operation(
        "POST",
        "/v1/files",
        lambda to: to.files.create,
        "Upload a file. With the purpose `fine-tune` it is validated, and not kept where a line has a fault.",
        "`file`, or 400 with the faults in `error.validation`",
        body=FileUpload,
        body_type="multipart/form-data",
    ),
    Operation(
        "GET",
        "/v1/files",
        lambda to: to.files.list,
        "List uploaded files, newest first.",
        "`list` of `file`",
        query=FileQuery,
    ),
    Operation("GET", "/v1/files/{id}", lambda to: to.files.get, "Get an uploaded file's object.", "`file`"),
    Operation(
        "GET",
        "/v1/files/{id}/content",
        lambda to: to.files.content,
        "Get an uploaded file's content.",
        "the file",
        answer_type="application/octet-stream",
    ),
    Operation(
        "DELETE",
        "/v1/files/{id}",
        lambda to: to.files.delete,
        "Delete an uploaded file and its content.",
        "`file` with `deleted`",
    ),
    Operation(
        "POST",
        JOBS,
        lambda to: to.jobs.create,
        "Tune a model with uploaded files. With the header `Idempotency-Key`, once however often it is sent.",
        "`fine_tuning.job`",
        body=FineTuningRequest,
    ),
    Operation(
        "GET",
        JOBS,
        lambda to: to.jobs.list,
        "List fine-tuning jobs, newest first. `metadata[key]=value` filters by metadata.",
        "`list` of `fine_tuning.job`",
        query=JobQuery,
    ),
    Operation("GET", f"{JOBS}/{{id}}", lambda to: to.jobs.get, "Get a fine-tuning job.", "`fine_tuning.job`"),
    Operation(
        "POST",
        f"{JOBS}/{{id}}/cancel",
        lambda to: to.jobs.cancel,
        "End a fine-tuning job for good.",
        "`fine_tuning.job`",
    ),
    Operation(
        "POST",
        f"{JOBS}/{{id}}/pause",
        lambda to: to.jobs.pause,
        "Let a fine-tuning job save itself and give its resources back.",
        "`fine_tuning.job`",
    ),
    Operation(
        "POST",
        f"{JOBS}/{{id}}/resume",
        lambda to: to.jobs.resume,
        "Put a paused fine-tuning job back into the queue.",
        "`fine_tuning.job`",
    ),
    Operation(
        "GET",
        f"{JOBS}/{{id}}/events",
        lambda to: to.jobs.events,
        "List what happened to a fine-tuning job, newest first.",
        "`list` of `fine_tuning.job.event`",
        query=EventQuery,
    ),
    Operation(
        "GET",
        f"{JOBS}/{{id}}/checkpoints",
        lambda to: to.jobs.checkpoints,
        "List a fine-tuning job's checkpoints that are kept, newest first.",
        "`list` of `fine_tuning.job.checkpoint`",
        query=CheckpointQuery,
    ),
    Operation(
        "GET",
        f"{JOBS}/{{id}}/logs",
        lambda to: to.jobs.logs,
        "Get the last lines of what a fine-tuning job printed.",
        "text",
        query=LogQuery,
        answer_type="text/plain",
    ),
    Operation(
        "GET",
        "/v1/health",
        lambda to: to.health.health,
        "The state of every part of the group.",
        "a status for each part",
    ),
    Operation(
        "GET", "/v1/metrics", lambda to: to.health.metrics, "Counts of this gateway replica, as JSON.", "`metrics`"
    ),
    Operation("GET", "/livez", lambda to: to.health.livez, "Whether the gateway's process lives.", "200"),
    Operation(
        "GET",
        "/readyz",
        lambda to: to.health.readyz,
        "Whether every model is ready.",
        "200, or 503 with who is waited for",
    ),
    Operation(
        "GET", "/openapi.json", lambda to: to.reference.openapi, "The API as an OpenAPI document.", "OpenAPI 3.1"
    ),
    Operation("GET", "/docs", lambda to: to.reference.docs, "The API's reference.", "a page"),
)


def router(parts: Parts) -> Routes:
    """The operations and the socket as one ASGI router; a known path with a wrong method is a 405."""
    routes: list[BaseRoute] = [
        Route(one.path, _Named(one.endpoint(parts), one.path), methods=[one.method]) for one in OPERATIONS
    ]
    routes.append(WebSocketRoute(CHAT_SOCKET, _Named(ChatSocket(parts.inference), CHAT_SOCKET)))
    return Routes(routes, redirect_slashes=False)


class _Named:
    """An endpoint as an ASGI app, which notes its route's name for the metrics."""

    def __init__(self, endpoint: Endpoint | ASGIApp, name: str) -> None:
        self._endpoint = endpoint
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["route_name"] = self._name
        await self._endpoint(scope, receive, send)
