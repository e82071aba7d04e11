"""The ``args`` and ``user_config`` of a model application."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from serve.protocol.sampling import SamplingDefaults
from serve.settings.base import Settings
from serve.settings.engines import ENGINES, LOADS_A_FILE, LOADS_A_FOLDER, NEEDS_WEIGHTS, LlamaCppEngine
from serve.settings.errors import worded
from serve.settings.suggest import one_of, require_distinct
from serve.settings.weights import FolderSettings, Weights, WeightsSettings, weights_of

ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")]
#: ``<model id>:base`` is the model itself, whatever was promoted; no adapter can have that name.
BASE = "base"


def _is_free(name: str) -> str:
    if name == BASE:
        raise ValueError(f"no adapter can be called {BASE!r}, which stands for the model itself")
    return name


#: Clients ask for ``<model id>:<adapter name>``, so neither may hold a colon.
AdapterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"), AfterValidator(_is_free)]


class ModelSettings(Settings):
    """Structure of one model: a change here needs new replicas.

    Attributes:
        id: what clients call it; also the application's name and the last part of its route.
        handler: which engine runs it.
        weights: its file or folder, for handlers that load one.
        engine: the handler's own settings, an object of the class in ``serve.settings.engines``.
        residency: ``always`` keeps the model in memory; ``on_demand`` lets it be unloaded when it is idle and another
            model of its node needs the room, and loads it again for its next request.
        max_queued: choices that may wait for a slot before requests are refused with 429.
        created: when the model was made, seconds since 1970; shown by ``/v1/models``.
        owned_by: who made it; shown by ``/v1/models``.
    """

    id: ModelId
    handler: str
    weights: Annotated[Weights | None, BeforeValidator(weights_of)] = None
    engine: Settings = Field(default_factory=dict, validate_default=True)
    residency: Literal["always", "on_demand"] = "always"
    max_queued: Annotated[int, Field(ge=0)] = 64
    created: Annotated[int, Field(ge=0)] = 0
    owned_by: str = "groupqwen"

    @field_validator("handler")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in ENGINES:
            raise ValueError(one_of("handler", name, ENGINES))
        return name

    @field_validator("engine", mode="before")
    @classmethod
    def _is_the_handlers(cls, raw: object, info: ValidationInfo) -> Settings:
        if "handler" not in info.data:
            return Settings()  # The handler's own fault is the one to tell.
        kind = ENGINES[info.data["handler"]]
        try:
            return kind.model_validate(raw)
        except ValidationError as error:
            raise worded(error, kind) from None

    @model_validator(mode="after")
    def _has_its_weights(self) -> ModelSettings:
        if self.handler in NEEDS_WEIGHTS and self.weights is None:
            raise ValueError(f"handler {self.handler!r} needs weights")
        if self.handler in LOADS_A_FILE and isinstance(self.weights, FolderSettings) and self.weights.entry is None:
            raise ValueError(f"handler {self.handler!r} loads a file; weights.entry must name it")
        projector = self.engine.projector if isinstance(self.engine, LlamaCppEngine) else None
        if projector is not None:
            files = self.weights.files if isinstance(self.weights, FolderSettings) else []
            if files is not None and projector not in [file.file for file in files]:
                raise ValueError(f"engine.projector {projector!r} must be one of weights.files, of a folder")
        if self.handler in LOADS_A_FOLDER and isinstance(self.weights, WeightsSettings):
            raise ValueError(f"handler {self.handler!r} loads a folder; weights must name one, not a file")
        return self


class AdapterSource(Settings):
    """An adapter of a model, named in the config.

    Attributes:
        name: clients ask for it as ``<model id>:<name>``.
        path: an absolute path to a folder with ``adapter_config.json`` and ``adapter_model.safetensors``, as PEFT
            saves them, that every node with a replica of the model sees.
    """

    name: AdapterName
    path: Annotated[str, Field(pattern=r"^[/~]")]


class CanarySettings(Settings):
    """An adapter that answers a part of the requests for its model.

    Attributes:
        adapter: its name.
        weight: which part, 0 to 1.
    """

    adapter: AdapterName
    weight: Annotated[float, Field(ge=0, le=1)]


class ModelUserConfig(Settings):
    """Behaviour of one model: changes live, with no restart.

    Attributes:
        sampling: what a request leaves open.
        system_prompt: put before a conversation that has no system message; none leaves that to the model's own
            chat template.
        adapters: adapters beside those of the registry; one that has the name of a published one takes its place.
        adapter_registry: whether the adapters that are published for this model are served.
        canary: takes the place of the registry's canary.
        default_adapter: takes the place of the registry's promoted adapter: answers what the canary does not.
    """

    sampling: SamplingDefaults = SamplingDefaults()
    system_prompt: Annotated[str, Field(min_length=1)] | None = None
    adapters: list[AdapterSource] = []
    adapter_registry: bool = True
    canary: CanarySettings | None = None
    default_adapter: AdapterName | None = None

    @field_validator("adapters")
    @classmethod
    def _have_their_own_names(cls, adapters: list[AdapterSource]) -> list[AdapterSource]:
        require_distinct("adapter", [adapter.name for adapter in adapters])
        return adapters
