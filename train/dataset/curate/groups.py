"""What a row counts as when a step chooses by group: its source, model, language or topic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from train.dataset.curate.base import Context
from train.dataset.curate.steps.language import language_name
from train.dataset.curate.steps.phrases import PhraseList, normal
from train.dataset.rows import Row

By = Literal["source", "model", "language", "topic"]

#: The group of rows that have no model, or are of no topic.
OTHER = "other"


def group_function(by: By, context: Context) -> Callable[[Row], str]:
    """What tells the group of a row."""
    if by == "source":
        return lambda row: row.source
    if by == "model":
        return lambda row: row.model or OTHER
    if by == "language":
        return language_name
    topics = [(topic.name, PhraseList(topic.keywords)) for topic in context.topics]

    def topic_of(row: Row) -> str:
        said = [
            row.provenance.title or "",
            *(message.content or "" for message in row.messages if message.role == "user"),
        ]
        text = normal("\n".join(said))
        return next((name for name, keywords in topics if keywords.found(text)), OTHER)

    return topic_of
