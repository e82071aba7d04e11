"""Where a model's weights come from, and how they are known to be the right ones: one file, or a folder of files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator

from serve.settings.base import Settings
from serve.settings.errors import worded

#: What an option of a storage library is called when its value is a secret.
_SECRET_WORDS = ("key", "secret", "token", "password", "passwd", "credential", "connection_string", "sas", "auth")
_NAME_BYTES = 1000
_KINDS = ("hub", "url", "path", "uri", "packages", "gguf")


def inner_path(path: str) -> str:
    """``path``, if it is a relative path with ``/`` that leads to a file inside a folder.

    Raises:
        ValueError: it would lead out of the folder, or is written in an unusual way.
    """
    steps = path.split("/")
    if {"", ".", ".."} & set(steps) or "\\" in path or not path.isprintable() or len(path.encode()) > _NAME_BYTES:
        raise ValueError(f"{path[:80]!r} is not a plain path inside a folder")
    return path


def distinct_paths(paths: Sequence[str]) -> None:
    """Raise ``ValueError`` when a path comes twice, or is the folder of another."""
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise ValueError(f"{path!r} comes twice")
        seen.add(path)
    for path in paths:
        for above in PurePosixPath(path).parents:
            if str(above) in seen:
                raise ValueError(f"{str(above)!r} cannot be both a file and the folder of {path!r}")


def _no_secrets(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if any(word in name.lower() for word in _SECRET_WORDS):
            raise ValueError(
                f"storage_options must hold no secret, and {name!r} looks like one; credentials come from the"
                " environment or from the storage library's own files"
            )
        if isinstance(value, Mapping):
            _no_secrets(value)


def _storage_address(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme in {"http", "https"}:
        raise ValueError("an http or https address is a url source")
    if "@" in parts.netloc:
        raise ValueError("it must hold no name and no password; credentials come from the environment")
    if "::" in uri:
        raise ValueError("chained addresses (with '::') are not taken")
    return uri


Name = Annotated[str, Field(pattern=r"^[\w-][\w.-]*$")]
InnerPath = Annotated[str, AfterValidator(inner_path)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Uri = Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://."), AfterValidator(_storage_address)]
Url = Annotated[str, Field(pattern=r"^https?://")]


class HubFolder(Settings):
    """A model hub's repository, or some of its files, at a pinned revision.

    Attributes:
        repo: ``OWNER/NAME``.
        revision: a commit.
        include: patterns of the files to take; none means all. ``*`` also stands for ``/``.
        exclude: patterns of files to leave out.
    """

    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    include: list[str] = []
    exclude: list[str] = []


class HubSource(Settings):
    """A file of a model hub's repository, at a pinned revision."""

    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    file: Annotated[str, Field(min_length=1)]


class PackageFile(Settings):
    """A file inside a Python package's wheel."""

    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.]+$")]
    file: Annotated[str, Field(min_length=1)]


Pieces = Annotated[list[PackageFile], Field(min_length=1)]


class _Place(Settings):
    """What sources of a file and of a folder have in common.

    Attributes:
        url: an http or https address.
        path: what lies on this node, used where it lies.
        uri: an address of an object store or another file system that fsspec knows.
        storage_options: for ``uri``, what to tell its file system, such as ``endpoint_url``; never a secret.
    """

    url: Url | None = None
    path: Annotated[str, Field(min_length=1)] | None = None
    uri: Uri | None = None
    storage_options: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _is_one_place(self) -> _Place:
        kinds = [kind for kind in _KINDS if kind in type(self).model_fields]
        if sum(getattr(self, kind) is not None for kind in kinds) != 1:
            raise ValueError(f"a source is exactly one of: {', '.join(kinds)}")
        if self.storage_options is not None:
            if self.uri is None:
                raise ValueError("storage_options belong to a uri")
            _no_secrets(self.storage_options)
        return self


class Source(_Place):
    """One place to get a file from; exactly one of the fields is set, but for ``storage_options``.

    Attributes:
        hub: a file of a model hub's repository.
        packages: files of Python packages, joined in order.
    """

    hub: HubSource | None = None
    packages: Pieces | None = None


class WeightsSettings(Settings):
    """A model file: its name, its size in bytes, its SHA-256, and the sources to try in order."""

    file: Name
    bytes: Annotated[int, Field(ge=1)]
    sha256: Sha256
    license: str | None = None
    sources: Annotated[list[Source], Field(min_length=1)]

    @property
    def name(self) -> str:
        """The name in the model's folder."""
        return self.file


class GgufSource(WeightsSettings):
    """A GGUF file that is turned into a checkpoint on this node.

    Attributes:
        dtype: the type of the checkpoint's numbers.
    """

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


class FolderSource(_Place):
    """One place to get a folder from; exactly one of the fields is set, but for ``storage_options``.

    Attributes:
        hub: a model hub's repository, which knows its files and their hashes.
        packages: for each file of the folder, files of Python packages that are joined in order.
        gguf: a GGUF file, from which the folder is made.
    """

    hub: HubFolder | None = None
    packages: Annotated[dict[str, Pieces], Field(min_length=1)] | None = None
    gguf: GgufSource | None = None


class FolderFile(Settings):
    """A file of a folder: its path in it, its size in bytes, its SHA-256."""

    file: InnerPath
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class FolderSettings(Settings):
    """A folder of files, such as a checkpoint in Hugging Face's layout, and the sources to try in order.

    Attributes:
        folder: its name in the model's folder.
        entry: the file in it that is loaded, for engines that want a file (a GGUF in pieces: its first one).
        files: what is in it; may be left out where each source knows that for itself.
    """

    folder: Name
    entry: InnerPath | None = None
    license: str | None = None
    files: Annotated[list[FolderFile], Field(min_length=1)] | None = None
    sources: Annotated[list[FolderSource], Field(min_length=1)]

    @property
    def name(self) -> str:
        """The name in the model's folder."""
        return self.folder

    @model_validator(mode="after")
    def _knows_its_files(self) -> FolderSettings:
        if self.files is None:
            self._leaves_files_to_its_sources()
        else:
            names = [file.file for file in self.files]
            distinct_paths(names)
            if self.entry is not None and self.entry not in names:
                raise ValueError(f"entry {self.entry!r} is not one of files")
            for source in self.sources:
                _fits(source, names)
        for source in self.sources:
            if source.gguf is not None and (source.gguf.name == self.folder or self.entry is not None):
                raise ValueError("a gguf source needs another file name than the folder's, and no entry")
        return self

    def _leaves_files_to_its_sources(self) -> None:
        for kind in ("url", "path", "uri", "packages"):
            if any(getattr(source, kind) is not None for source in self.sources):
                raise ValueError(f"files is required with a {kind} source; only hub and gguf know theirs")


def _fits(source: FolderSource, names: Iterable[str]) -> None:
    """Raise ``ValueError`` when a source contradicts the files that are listed."""
    if source.hub is not None and (source.hub.include or source.hub.exclude):
        raise ValueError("files already says what to take from the hub; leave out include and exclude")
    if source.packages is not None and set(source.packages) != set(names):
        odd = sorted(set(source.packages) ^ set(names))
        raise ValueError(f"packages must give each of files and nothing else; see {', '.join(odd)}")


Weights = WeightsSettings | FolderSettings


def weights_of(raw: object) -> object:
    """``raw`` as the form of weights that its keys ask for.

    Raises:
        ValidationError: with its sentences made.
        ValueError: it is no mapping.
    """
    if raw is None or isinstance(raw, Settings):
        return raw
    if not isinstance(raw, Mapping):
        raise ValueError("it must be a mapping with the key 'file' or 'folder'")
    kind: type[Settings] = FolderSettings if "folder" in raw else WeightsSettings
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise worded(error, kind) from None
