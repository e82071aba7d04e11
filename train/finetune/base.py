"""The model that a run tunes, as a checkpoint on this node."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from serve.models import fetch
from serve.models.wanted import base_sha256
from serve.settings.errors import SettingsError
from serve.settings.weights import FolderSettings, FolderSource, GgufSource, Source, Weights, WeightsSettings
from train.finetune.recipe import Recipe, TunedModel, parse_recipe
from train.run_folder import ADAPTER, CONFIG, RunFolder


@dataclass(frozen=True, slots=True)
class BaseCheckpoint:
    """A checkpoint in Hugging Face's layout.

    Attributes:
        path: its folder.
        weights_sha256: of the weights that an adapter of it fits, as the registry of adapters knows them.
    """

    path: Path
    weights_sha256: list[str]


def recipe_of(run: RunFolder) -> Recipe:
    """The recipe of a finished run.

    Raises:
        SettingsError: the folder is that of none.
        StorageError
    """
    content = run.read(CONFIG)
    if content is None or not run.names(ADAPTER):
        raise SettingsError(f"{run.address}: has no {CONFIG} and {ADAPTER}/; is it the folder of a finished run?")
    return parse_recipe(content.decode(), f"{run.address}/{CONFIG}")


def base_checkpoint(model: TunedModel, *, progress: bool) -> BaseCheckpoint:
    """Where the base's checkpoint lies on this node; fetched, or made of a GGUF file, when it is not there yet.

    Args:
        progress: write progress to standard error instead of to the log.

    Raises:
        SettingsError: ``model.base`` is a path with nothing fit at it.
        ModelSourceError: no source gave it, or no checkpoint can be made of it.
    """
    if isinstance(model.base, str) and Path(model.base).is_dir():
        folder = Path(model.base)
        if not (folder / "config.json").is_file():
            raise SettingsError(f"model.base: {folder} has no config.json, so it is no checkpoint")
        return BaseCheckpoint(folder, list(model.served_sha256))
    weights = _weights(model.base)
    path = fetch(model.id, weights, progress=progress)
    known = base_sha256(weights)
    return BaseCheckpoint(path, list(dict.fromkeys([*([known] if known else []), *model.served_sha256])))


def _weights(base: str | Weights) -> FolderSettings:
    """A folder of weights; a file, which is a GGUF, is turned into one."""
    if isinstance(base, FolderSettings):
        return base
    file = _described(Path(base)) if isinstance(base, str) else base
    gguf = GgufSource(**{**file.model_dump(), "sources": file.sources})
    return FolderSettings(folder=f"{gguf.sha256[:16]}-checkpoint", sources=[FolderSource(gguf=gguf)])


def _described(path: Path) -> WeightsSettings:
    """A GGUF file on this node as a config would state it."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SettingsError(f"model.base: {path} cannot be read ({error.strerror})") from None
    return WeightsSettings(
        file=f"{sha256[:16]}.gguf", bytes=path.stat().st_size, sha256=sha256, sources=[Source(path=str(path))]
    )
