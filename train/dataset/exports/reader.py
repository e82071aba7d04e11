"""The contract of a source: what tells its conversations from others', and how they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from train.dataset.rows import Message, RowFeedback, SourceName


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How conversations are read.

    Attributes:
        every_branch: all branches, rather than the one that the user saw last.
        keep_hidden: what the user wrote about themselves for the model, as a system message (ChatGPT).
    """

    every_branch: bool = False
    keep_hidden: bool = False


@dataclass(slots=True)
class Draft:
    """A conversation, or one branch of it, before it is checked and gets an id.

    Attributes:
        source_id: an id that is the conversation's own wherever it is exported; none where there is no such thing.
        branch: of a branch that the user did not see last: the id of its last message.
    """

    messages: tuple[Message, ...]
    source_id: str | None = None
    branch: str | None = None
    title: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    models: tuple[str, ...] = ()
    times: tuple[datetime | None, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    tools: tuple[dict[str, Any], ...] = ()
    rejected: tuple[Message, ...] = ()
    tenant: str | None = None
    feedback: RowFeedback | None = None


class Reader(Protocol):
    """A source of conversations. ``matches`` and ``read`` are given parsed JSON."""

    @property
    def name(self) -> SourceName:
        """What ``--source`` and a row's ``source`` call it."""

    def matches(self, value: dict[str, Any]) -> bool:
        """Whether ``value`` is one of its conversations. Looks at the shape only, quickly; raises nothing."""

    def read(self, value: dict[str, Any], options: ReadOptions) -> Iterator[Draft]:
        """The branches of a conversation, the one that the user saw last first.

        Raises:
            Unusable: it cannot be read.
            pydantic.ValidationError: a message breaks a rule of ``train.dataset.rows``.
        """
