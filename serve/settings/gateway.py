"""The ``args`` and ``user_config`` of the gateway application."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from serve.settings.base import Settings
from serve.settings.model import ModelId
from serve.settings.suggest import require_distinct


class Limits(Settings):
    """Bounds on what one request may ask.

    Attributes:
        body_bytes: largest request body.
        message_count: most messages in a chat.
        websocket_requests: requests under way at once on one socket.
        socket_buffer_bytes: how much of an answer is kept for a client that reads slowly before its model waits.
    """

    body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    message_count: Annotated[int, Field(ge=1)] = 2048
    websocket_requests: Annotated[int, Field(ge=1)] = 32
    socket_buffer_bytes: Annotated[int, Field(ge=4096)] = 256 * 1024


class Timeouts(Settings):
    """How long to wait, in seconds.

    Attributes:
        connect: for a model's port to accept.
        first_byte: for the first byte of an answer, queueing included.
        task_first_byte: the same of a task, which asks models many times for one answer.
        between_bytes: for the next byte of an answer that has begun.
        replica_wait: for a model that was lost, or a replica that did not answer, to be there again.
        models_refresh: between two looks at which models Serve runs.
    """

    connect: Annotated[float, Field(gt=0)] = 5.0
    first_byte: Annotated[float, Field(gt=0)] = 600.0
    task_first_byte: Annotated[float, Field(gt=0)] = 3600.0
    between_bytes: Annotated[float, Field(gt=0)] = 120.0
    replica_wait: Annotated[float, Field(ge=0)] = 20.0
    models_refresh: Annotated[float, Field(gt=0)] = 2.0


class Wake(Settings):
    """How requests wait for a model that is not in memory; times in seconds.

    Attributes:
        max_waiting: requests that wait for one model at a gateway replica; one more is refused with 503.
        timeout: how long one waits before it is refused with 503.
        keepalive: between two signs of life to a client that streams while it waits; the answer's head goes out
            with the first.
    """

    max_waiting: Annotated[int, Field(ge=1)] = 128
    timeout: Annotated[float, Field(gt=0)] = 120.0
    keepalive: Annotated[float, Field(gt=0)] = 5.0


class FileLimits(Settings):
    """What one caller may upload and keep.

    Attributes:
        file_bytes: largest file.
        stored_files: most files.
        stored_bytes: most bytes of them together.
        uploads: uploads under way at once at a gateway replica.
    """

    file_bytes: Annotated[int, Field(ge=1024)] = 512 * 1024 * 1024
    stored_files: Annotated[int, Field(ge=1)] = 1000
    stored_bytes: Annotated[int, Field(ge=1024)] = 10 * 1024**3
    uploads: Annotated[int, Field(ge=1)] = 4


class Recipes(Settings):
    """What a model is tuned by: files that the gateway's node has.

    A relative path begins in the folder that the package ``train`` is in.

    Attributes:
        supervised: the recipe for answers, ``objective: sft``. dpo: the one for pairs of answers, ``objective: dpo``.
            A method without one is refused.
    """

    supervised: Annotated[str, Field(min_length=1)] | None = None
    dpo: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_one(self) -> Recipes:
        if self.supervised is None and self.dpo is None:
            raise ValueError("state a recipe for supervised, for dpo, or for both")
        return self

    def of(self, method: str) -> str | None:
        """The recipe for a method of the API, ``supervised`` or ``dpo``."""
        return self.dpo if method == "dpo" else self.supervised


class FineTuning(Settings):
    """What may be tuned over the API, and how.

    Attributes:
        recipes: id of a model -> what it is tuned by. Models that are not named here cannot be tuned.
        storage: the folder of the runs, which every node sees; by default ``GROUPQWEN_RUNS``, where that is a folder.
        unfinished_jobs: most jobs of one caller that wait, run or are paused.
        copied_bytes: most bytes of files that one caller's jobs keep copies of. all_copied_bytes: of all callers.
        keep_days: how long the folder of a run stays after its job has ended.
    """

    recipes: dict[ModelId, Recipes] = {}
    storage: Annotated[str, Field(pattern=r"^[/~]")] | None = None
    unfinished_jobs: Annotated[int, Field(ge=1)] = 8
    copied_bytes: Annotated[int, Field(ge=1024)] = 10 * 1024**3
    all_copied_bytes: Annotated[int, Field(ge=1024)] = 50 * 1024**3
    keep_days: Annotated[int, Field(ge=1, le=36500)] = 30


class Condition(Settings):
    """What a request must be like; every field that is set must hold.

    Attributes:
        code: the last user message holds or asks for code.
        tools: the request brings tools.
        structured_output: the request asks for JSON.
        min_prompt_chars: the conversation has at least this many characters.
        min_messages: the conversation has at least this many messages.
        pattern: a regular expression found in the last user message, case ignored.
    """

    code: bool | None = None
    tools: bool | None = None
    structured_output: bool | None = None
    min_prompt_chars: Annotated[int, Field(ge=1)] | None = None
    min_messages: Annotated[int, Field(ge=1)] | None = None
    pattern: Annotated[str, Field(min_length=1, max_length=1000)] | None = None

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except (re.error, OverflowError) as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern


class Rule(Settings):
    """When a request is like this, these models are for it, the first that can answer."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    when: Condition
    models: Annotated[list[ModelId], Field(min_length=1)]


class RoutingSettings(Settings):
    """How ``model: "auto"`` chooses: the first rule that holds, else the default models in order.

    Attributes:
        wake: take a model that is not in memory like any other, and wait for it; else it is taken only where no model
            in memory can answer.
    """

    rules: list[Rule] = []
    default: list[ModelId] = []
    wake: bool = False

    @field_validator("rules")
    @classmethod
    def _have_their_own_names(cls, rules: list[Rule]) -> list[Rule]:
        require_distinct("rule", [rule.name for rule in rules])
        return rules


class GatewayUserConfig(Settings):
    """Behaviour of the gateway: changes live, with no restart."""

    routing: RoutingSettings = RoutingSettings()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    wake: Wake = Wake()
    files: FileLimits = FileLimits()
    fine_tuning: FineTuning = FineTuning()


class GatewaySettings(Settings):
    """Structure of the gateway: a change here needs new replicas.

    Attributes:
        transport: how answers come from a model: ``http`` relays bytes through Serve's proxy, ``handle`` goes
            through Ray's object plane, ``auto`` takes ``http`` wherever Serve runs HAProxy.
        allowed_origins: web pages on other hosts that may call the API, such as ``https://chat.example.org``.
        access_log: one structured line for each request; never any content.
        log_level: of GroupQwen's own logs.
    """

    transport: Literal["auto", "http", "handle"] = "auto"
    access_log: bool = True
    allowed_origins: list[str] = []
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
