"""What goes into the store and comes out of it: frozen, plain data. Every time is aware, in UTC when read.

Prompts, answers and secrets are left out of every ``repr``, so that a logged record shows none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

from serve.errors import InvalidRequest

T = TypeVar("T")

Order = Literal["asc", "desc"]
Rating = Literal["up", "down"]


class Scope(StrEnum):
    """What an API key may do."""

    INFERENCE = "inference"
    CONVERSATIONS = "conversations"
    FILES = "files"
    FINE_TUNING = "fine_tuning"
    ADMIN = "admin"


def utc_now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


def require_aware(moment: datetime, name: str) -> None:
    """Raise ``ValueError`` where ``moment`` has no time zone: as UTC it could mean hours earlier or later."""
    if moment.utcoffset() is None:
        raise ValueError(f"{name} needs a time zone")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; where ``has_more``, the next page comes after the last item's id."""

    items: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request with ``store: true`` and its answer.

    Attributes:
        id: the completion's id.
        tenant: whose it is: the API key's id, or ``"local"``.
        model: id of the model that answered.
        request: the request's JSON as the client sent it.
        choices: the answers, each with ``index``, ``message`` and ``finish_reason``.
        usage: token counts; none where the generation ended before they were known.
        metadata: the client's own pairs, within the limits of ``checked_metadata``.
        route: why the model was chosen; none where the client named it.
    """

    id: str
    tenant: str
    created_at: datetime
    model: str
    request: dict[str, Any] = field(repr=False)
    choices: list[dict[str, Any]] = field(repr=False)
    usage: dict[str, Any] | None = None
    metadata: dict[str, str] = field(default_factory=dict, repr=False)
    route: str | None = None

    def __post_init__(self) -> None:
        require_aware(self.created_at, "created_at")


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person thinks of one answer of a stored conversation.

    Attributes:
        choice_index: ``index`` of the choice it is about.
        correction: text that should have been the answer.

    Raises:
        InvalidRequest: an unknown rating, or neither rating nor correction nor comment.
    """

    id: str
    conversation_id: str
    tenant: str
    created_at: datetime
    choice_index: int = 0
    rating: Rating | None = None
    correction: str | None = field(default=None, repr=False)
    comment: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_aware(self.created_at, "created_at")
        if self.rating not in (None, "up", "down"):
            raise InvalidRequest("rating is 'up', 'down' or null.", param="rating")
        if not (self.rating or self.correction or self.comment):
            raise InvalidRequest("Feedback needs a rating, a correction or a comment.", param="rating")


@dataclass(frozen=True, slots=True)
class Ratings:
    """How many of one tenant's conversations were liked and disliked."""

    up: int = 0
    down: int = 0

    @property
    def total(self) -> int:
        """How many were rated."""
        return self.up + self.down

    @property
    def down_share(self) -> float:
        """The part that was disliked; 0 where nothing was rated."""
        return self.down / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file.

    Attributes:
        tenant: whose it is: the API key's id, or ``"local"``.
        expires_at: from when on it is gone; none means never.
        filename: as the client calls it; never a path here.
        sha256: of its content, in hexadecimal.
        validation: what the validation of a training file counted; none where the purpose asks for none.
    """

    id: str
    tenant: str
    created_at: datetime
    filename: str = field(repr=False)
    purpose: str
    bytes: int
    sha256: str
    expires_at: datetime | None = None
    validation: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        require_aware(self.created_at, "created_at")
        if self.expires_at is not None:
            require_aware(self.expires_at, "expires_at")


@dataclass(frozen=True, slots=True)
class FileRoom:
    """How much one tenant may keep.

    Attributes:
        count: most files. bytes: most bytes of them together.
    """

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class JobRoom:
    """How much fine-tuning jobs may be and keep.

    Attributes:
        unfinished: most jobs of one tenant that wait, run or are paused.
        copied_bytes: most bytes of files that one tenant's jobs keep copies of. all_copied_bytes: of all tenants.
    """

    unfinished: int
    copied_bytes: int
    all_copied_bytes: int


Level = Literal["info", "warning", "error"]
#: OpenAI's states of a fine-tuning job, and ``paused``.
JobStatus = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class FineTuningJob:
    """A fine-tuning job.

    Attributes:
        tenant: whose it is: the API key's id, or ``"local"``.
        model: id of the model that is tuned.
        adapter: the name under which the result is published.
        run: the folder or address of its run.
        method: ``type`` and hyperparameters, as OpenAI's ``method``.
        fingerprint: SHA-256 of the request, to know one that is sent again.
        queued_at: since when it has its place in the queue; none before it was validated.
        error: OpenAI's ``code``, ``message`` and ``param`` of a job that failed.
        plan: what its validation found out: what it needs of a node, and its whole recipe.
        progress: the state and the last measurement of this attempt, as its events say them.
        wanted: what was asked for and has not come about yet.
        attempt: how often it was started. restarts: how often of these because it was lost.
        submitted: whether Ray has been given this attempt.
        indexed: the last event of the run's folder that was taken into the database.
        revision: counts changes; a change is made to the revision that was read, or not at all.
        copied_bytes: of the files that its run's folder has copies of; 0 once these are removed.
    """

    id: str
    tenant: str
    created_at: datetime
    model: str
    adapter: str
    run: str
    training_file: str
    fingerprint: str
    seed: int
    method: dict[str, Any]
    status: JobStatus = "validating_files"
    validation_file: str | None = None
    suffix: str | None = None
    metadata: dict[str, str] = field(default_factory=dict, repr=False)
    idempotency_key: str | None = field(default=None, repr=False)
    queued_at: datetime | None = None
    finished_at: datetime | None = None
    error: dict[str, Any] | None = None
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    plan: dict[str, Any] | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    wanted: Literal["pause", "cancel"] | None = None
    attempt: int = 0
    restarts: int = 0
    submitted: bool = False
    indexed: int = 0
    revision: int = 0
    copied_bytes: int = 0

    def __post_init__(self) -> None:
        require_aware(self.created_at, "created_at")

    @property
    def submission(self) -> str:
        """Ray's name for this attempt; made of what is known, so that an attempt cannot be submitted twice."""
        return f"{self.id}-{self.attempt}"


@dataclass(frozen=True, slots=True)
class JobEvent:
    """What happened to a job.

    Attributes:
        kind: ``message``, ``state``, ``metrics`` or ``checkpoint``.
        step: of metrics and checkpoints.
        position: its place among the job's events, from 1; 0 while it has none.
    """

    at: datetime
    message: str
    level: Level = "info"
    kind: str = "message"
    step: int | None = None
    data: dict[str, Any] = field(default_factory=dict)
    position: int = 0

    def __post_init__(self) -> None:
        require_aware(self.at, "at")


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as anyone but its holder may see it.

    Attributes:
        prefix: the secret's first characters, to recognise it by.
        requests_per_minute, tokens_per_minute: limits; none means no limit.
        expires_at, revoked_at: from when on it is not valid; none means never and not yet.
    """

    id: str
    name: str
    prefix: str
    scopes: frozenset[Scope]
    requests_per_minute: int | None
    tokens_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def valid(self, now: datetime) -> bool:
        """Whether the key opens anything at the time ``now``."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made, with its secret: the only time that the secret is to be had."""

    key: Key
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What requests cost: one request, or several of the same key, model and UTC day."""

    key_id: str
    model: str
    at: datetime
    prompt_tokens: int
    completion_tokens: int
    requests: int = 1

    def __post_init__(self) -> None:
        require_aware(self.at, "at")


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """What a key's requests to one model cost together."""

    key_id: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
