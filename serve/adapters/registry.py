"""The adapter registry: a folder that every node sees, and the truth about which adapters are served.

::

    <registry>/<model id>/<adapter name>/manifest.json                        written last, in one step
    <registry>/<model id>/<adapter name>/<version>/adapter_config.json
    <registry>/<model id>/<adapter name>/<version>/adapter_model.safetensors
    <registry>/<model id>/_promotions.jsonl                                   serve.adapters.promotions

A version's folder is named by its content and never changes. The manifest says which one is served, so that a new
content takes the place of an old one in one step: who reads sees the old one or the new one, whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from serve.adapters.errors import AdapterMissing, BadName, NameTaken, RegistryError, StorageFailed, WrongFiles
from serve.adapters.files import CONFIG, MANIFEST, WEIGHTS, read_plain, sha256, signature, version_of, write_durably
from serve.adapters.manifest import Base, FileRecord, Manifest, parse_manifest
from serve.adapters.peft import parse_config, parse_weights
from serve.settings.environment import Environment
from serve.settings.model import BASE, AdapterName, ModelId

#: Versions that stay beside the one that is served: replicas may still be reading them.
_KEPT_VERSIONS = 1

_MODEL_ID: TypeAdapter[str] = TypeAdapter(ModelId)
_NAME: TypeAdapter[str] = TypeAdapter(AdapterName)


@dataclass(frozen=True, slots=True)
class Published:
    """An adapter that stands in the registry.

    Attributes:
        manifest: what it is; none when it cannot be understood.
        fault: why not, then. may_pass: whether it may be understood later, as it is.
    """

    model: str
    name: str
    manifest: Manifest | None
    fault: str = ""
    may_pass: bool = False


class Registry:
    """The adapters under ``root``, by default the environment's registry.

    Everyone who may write there decides what models say: it belongs to the operator, like the config.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = Environment.read().adapters_dir if root is None else root

    def models(self) -> list[str]:
        """The ids of the models that have adapters."""
        return _names(self.root, _MODEL_ID)

    def names(self, model: str) -> list[str]:
        """The names under which something is, or was, or is about to be published for ``model``.

        Raises:
            BadName, StorageFailed
        """
        return _names(self.model_folder(model), _NAME)

    def manifest(self, model: str, name: str) -> Manifest:
        """The manifest of an adapter.

        Raises:
            BadName: a name is not one of a model or of an adapter.
            AdapterMissing: nothing is published under that name.
            BadManifest, WrongFiles: its manifest cannot be used.
            StorageFailed: it cannot be read.
        """
        folder = self._folder(model, name)
        try:
            content = read_plain(folder, MANIFEST)
        except WrongFiles:
            if signature(folder / MANIFEST) is None:
                raise AdapterMissing(f"{model}: no adapter {name!r} is published") from None
            raise
        return parse_manifest(content, model, name)

    def list(self, model: str | None = None) -> list[Published]:
        """Every adapter of ``model``, or of all models; those that cannot be understood too.

        Raises:
            BadName, StorageFailed
        """
        found = []
        for one in [model] if model is not None else self.models():
            for name in self.names(one):
                try:
                    found.append(Published(one, name, self.manifest(one, name)))
                except AdapterMissing:
                    continue
                except RegistryError as fault:
                    found.append(Published(one, name, None, str(fault), isinstance(fault, StorageFailed)))
        return found

    def model_folder(self, model: str) -> Path:
        """Where what belongs to a model lies, whether it is there or not.

        Raises:
            BadName
        """
        return self.root / _checked(_MODEL_ID, model, "model id")

    def folder(self, manifest: Manifest) -> Path:
        """Where the files of a manifest's version lie."""
        return self._folder(manifest.base.model, manifest.name) / manifest.version

    def verify(self, model: str, name: str) -> Manifest:
        """Read an adapter whole and check everything that does not need its model; gives its manifest.

        Raises:
            RegistryError: what is wrong.
        """
        manifest = self.manifest(model, name)
        contents = read_version(self.folder(manifest), manifest)
        parse_weights(contents[WEIGHTS], parse_config(contents[CONFIG]))
        return manifest

    def publish(
        self,
        base: Base,
        name: str,
        source: Path,
        *,
        training_data: str | None = None,
        evaluation: Mapping[str, Any] | None = None,
        replace: bool = True,
    ) -> Manifest:
        """Publish the PEFT folder ``source`` as the adapter ``name`` of ``base.model``.

        Replicas take it up by themselves. Its files are checked first and copied; the manifest is written last.

        Args:
            replace: it takes the place of another content that has the name.

        Raises:
            BadName: the name cannot be that of an adapter.
            NameTaken: another content has the name.
            BadAdapter: the folder holds no adapter that can be served.
            StorageFailed: the registry cannot be written.
        """
        folder = self._folder(base.model, name)
        contents = {file: read_plain(source, file) for file in (CONFIG, WEIGHTS)}
        config = parse_config(contents[CONFIG])
        parse_weights(contents[WEIGHTS], config)
        records = {file: FileRecord(bytes=len(content), sha256=sha256(content)) for file, content in contents.items()}
        manifest = Manifest(
            name=name,
            version=version_of({file: record.sha256 for file, record in records.items()}),
            base=base,
            rank=config.largest_rank,
            alpha=config.alpha,
            target_modules=list(config.target_modules),
            files=records,
            created=datetime.now(UTC),
            training_data=training_data,
            evaluation=dict(evaluation or {}),
        )
        with self._writing(folder):
            if not replace:
                self._require_free(manifest)
            for file, content in contents.items():
                write_durably(folder / manifest.version, file, content)
            write_durably(folder, MANIFEST, manifest.model_dump_json(indent=2).encode())
            _prune(folder, manifest.version)
        return manifest

    def withdraw(self, model: str, name: str) -> None:
        """Take an adapter out of the registry, its files too. Requests that run on it end by themselves.

        Raises:
            AdapterMissing, BadName, StorageFailed
        """
        folder = self._folder(model, name)
        if signature(folder / MANIFEST) is None:
            raise AdapterMissing(f"{model}: no adapter {name!r} is published")
        with self._writing(folder):
            (folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder)

    def _require_free(self, manifest: Manifest) -> None:
        model, name = manifest.base.model, manifest.name
        with suppress(AdapterMissing):
            if self.manifest(model, name).version != manifest.version:
                raise NameTaken(f"{model}:{name} is published with another content; name this one otherwise")

    def _folder(self, model: str, name: str) -> Path:
        return self.model_folder(model) / _checked(_NAME, name, "adapter name")

    @contextmanager
    def _writing(self, folder: Path) -> Iterator[None]:
        """Be the only one that changes an adapter. The lock stays: removing it could let two in."""
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f".{folder.name}.lock"):
                folder.mkdir(exist_ok=True)
                yield
        except OSError as failure:
            raise StorageFailed(f"the registry at {self.root} cannot be written: {failure.strerror}") from failure


def read_version(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """The files of a version, held to its manifest.

    Raises:
        WrongFiles: they are not what the manifest describes.
        StorageFailed: they cannot be read.
    """
    contents: dict[str, bytes] = {}
    for file, record in manifest.files.items():
        contents[file] = read_plain(folder, file)
        if len(contents[file]) != record.bytes:
            raise WrongFiles(f"{file} has {len(contents[file])} bytes; the manifest says {record.bytes}")
        if sha256(contents[file]) != record.sha256:
            raise WrongFiles(f"{file} is not the file that the manifest describes: its SHA-256 differs")
    return contents


def _prune(folder: Path, version: str) -> None:
    """Remove all versions but the one that is served and the newest of the others."""
    others = [one for one in folder.iterdir() if one.is_dir() and one.name != version]
    others.sort(key=lambda one: one.stat().st_mtime_ns, reverse=True)
    for old in others[_KEPT_VERSIONS:]:
        shutil.rmtree(old)


def _names(folder: Path, kind: TypeAdapter[str]) -> list[str]:
    """The folders in ``folder`` whose names are right; none where there is no folder."""
    try:
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as failure:
        raise StorageFailed(f"the registry at {folder} cannot be read: {failure.strerror}") from failure
    return [name for name in names if _fits(kind, name)]


def _fits(kind: TypeAdapter[str], name: str) -> bool:
    try:
        kind.validate_python(name)
    except ValidationError:
        return False
    return True


def _checked(kind: TypeAdapter[str], name: str, what: str) -> str:
    if not _fits(kind, name):
        raise BadName(
            f"{name!r} cannot be the {what}: letters, digits, '.', '_' and '-', beginning with a letter or digit,"
            f" and not {BASE!r} for an adapter"
        )
    return name
