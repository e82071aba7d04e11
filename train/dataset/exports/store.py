"""Rows out of this group's own database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

from serve.store import Conversation, Feedback, Store
from train.dataset.exports.files import Event, Reading, read_value
from train.dataset.exports.problems import Place

_BATCH = 50

_Rated = tuple[Conversation, tuple[Feedback, ...]]


def read_store(
    url: str,
    reading: Reading,
    *,
    tenant: str | None = None,
    model: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[Event]:
    """Every stored conversation, oldest first.

    Args:
        url: the database.
        reading: its readers say which feedback is wanted (``group.Group``).
        tenant: whose; none for everybody's.
        model, since, until: as ``Store.stream`` takes them.

    Raises:
        ValueError: the URL is not a database's.
        Unavailable: the database does not answer.
    """
    with asyncio.Runner() as runner:
        store = Store(url)
        runner.run(store.open())
        try:
            stored = store.stream(tenant=tenant, model=model, since=since, until=until, batch=_BATCH)
            number = 0
            while (one := runner.run(_next(stored))) is not None:
                number += 1
                reading.progress(1)
                yield from read_value(_body(*one), Place("", number=number), reading)
        finally:
            runner.run(store.close())


async def _next(stored: AsyncIterator[_Rated]) -> _Rated | None:
    return await anext(stored, None)


def _body(one: Conversation, feedback: tuple[Feedback, ...]) -> dict[str, Any]:
    """A stored conversation as the API gives it, with its owner, and its time in full."""
    return {
        "id": one.id,
        "object": "conversation",
        "created": one.created_at.timestamp(),
        "model": one.model,
        "tenant": one.tenant,
        "request": one.request,
        "choices": one.choices,
        "feedback": [
            {"choice": said.choice_index, "rating": said.rating, "correction": said.correction} for said in feedback
        ],
    }
