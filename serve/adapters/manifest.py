"""``manifest.json``: what a published adapter is, and which model it was made for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from serve.adapters.errors import BadManifest
from serve.adapters.files import CONFIG, WEIGHTS, version_of
from serve.settings.base import Settings
from serve.settings.errors import fault_lines
from serve.settings.model import AdapterName, ModelId

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileRecord(Settings):
    """One file: its size in bytes and its SHA-256."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Base(Settings):
    """The model that an adapter was trained on.

    Attributes:
        model: the id under which it is served.
        weights_sha256: of the weights that it fits: the file that is served, the one that it was trained on, or
            both. A replica whose own file is not among them refuses it; an empty list is not checked.
        tokenizer_sha256: of the tokenizer that it was trained with, if known; for people and tools, not checked.
        chat_template_sha256: of the text of the chat template that it was trained with, if known. A replica whose
            model has another template refuses it.
    """

    model: ModelId
    weights_sha256: list[Sha256] = []
    tokenizer_sha256: Sha256 | None = None
    chat_template_sha256: Sha256 | None = None


class Manifest(Settings):
    """What a published adapter is; written last, so that what has one is whole.

    Attributes:
        format: of the manifest itself.
        name: what clients ask for, after the model's id and a colon.
        version: names the content (``serve.adapters.files.version_of``); also the folder that holds the files.
        base: the model that it was trained on.
        rank: the largest of its modules. alpha: the numerator of its scale.
        target_modules: what it changes.
        files: every file of the adapter.
        created: when it was published.
        training_data: fingerprint of what it was trained on, if known.
        evaluation: report of its evaluation, as plain data.
    """

    format: Literal[1] = 1
    name: AdapterName
    version: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    base: Base
    rank: Annotated[int, Field(ge=1)]
    alpha: float
    target_modules: list[str]
    files: dict[str, FileRecord]
    created: AwareDatetime
    training_data: str | None = None
    evaluation: dict[str, Any] = {}


def parse_manifest(content: bytes, model: str, name: str) -> Manifest:
    """The manifest in ``content``, which stands in the registry as the adapter ``name`` of ``model``.

    Raises:
        BadManifest: it is none, or one of another adapter; names the key.
    """
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise BadManifest(f"manifest.json: {'; '.join(fault_lines(error, Manifest))}") from None
    if (manifest.base.model, manifest.name) != (model, name):
        raise BadManifest(
            f"manifest.json is that of '{manifest.base.model}:{manifest.name}', not of '{model}:{name}'"
        )
    if set(manifest.files) != {CONFIG, WEIGHTS}:
        raise BadManifest(f"manifest.json: files: must name {CONFIG} and {WEIGHTS}")
    if manifest.version != version_of({file: record.sha256 for file, record in manifest.files.items()}):
        raise BadManifest("manifest.json: version: is not that of its files")
    return manifest
