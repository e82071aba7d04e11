"""Fine-tuning jobs and leases in the store, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from serve.errors import InvalidRequest, NotFound
from serve.store import FineTuningJob, JobEvent, JobRoom, Store, migrate
from serve.store import engine as engines

NOW = datetime(2026, 5, 17, 12, 30, 15, 123456, tzinfo=UTC)
CREATED = JobEvent(NOW, "Created")
METHOD = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "auto"}}}


def job(id: str = "ftjob-1", **changes: Any) -> FineTuningJob:
    fields: dict[str, Any] = {
        "tenant": "local",
        "created_at": NOW,
        "model": "smollm2",
        "adapter": "ft-1",
        "run": f"/runs/{id}",
        "training_file": "file-1",
        "fingerprint": "ab" * 32,
        "seed": 2**32 - 1,
        "method": METHOD,
        "metadata": {"who": "שלום 👩"},
    }
    return FineTuningJob(id=id, **(fields | changes))


ROOM = JobRoom(unfinished=100, copied_bytes=10**12, all_copied_bytes=10**12)


async def added(store: Store, id: str = "ftjob-1", room: JobRoom = ROOM, **changes: Any) -> FineTuningJob:
    return await store.jobs.add(job(id, **changes), room, CREATED)


async def ids(store: Store, **filters: Any) -> list[str]:
    return [one.id for one in (await store.jobs.list("local", **filters)).items]


async def test_a_job_comes_back_as_it_was_stored(store: Store) -> None:
    made = await added(store, validation_file="file-2", suffix="mine", idempotency_key="k")
    assert made == job(validation_file="file-2", suffix="mine", idempotency_key="k")
    assert await store.jobs.get("ftjob-1", "local") == made
    [event] = (await store.jobs.events("ftjob-1", "local")).items
    assert event == replace(CREATED, position=1)


async def test_a_tenant_sees_only_its_own(store: Store) -> None:
    await added(store)
    for call in (
        store.jobs.get("ftjob-1", "other"),
        store.jobs.events("ftjob-1", "other"),
        store.jobs.checkpoints("ftjob-1", "other", {1}),
        store.jobs.list("other", after="ftjob-1"),
    ):
        with pytest.raises(NotFound):
            await call
    assert (await store.jobs.list("other")).items == ()


async def test_an_idempotency_key_makes_one_job_of_many_requests_at_once(store: Store, database_url: str) -> None:
    async with Store(database_url) as replica:
        calls = [
            (store, replica)[number % 2].jobs.add(job(f"ftjob-{number}", idempotency_key="k"), ROOM, CREATED)
            for number in range(8)
        ]
        made = await asyncio.gather(*calls)
    assert len({one.id for one in made}) == 1
    assert len(await ids(store)) == 1
    assert (await store.jobs.repeated(job("ftjob-9", idempotency_key="k"))) == made[0]
    assert await store.jobs.repeated(job("ftjob-9", idempotency_key="k", tenant="other")) is None
    other = job("ftjob-9", idempotency_key="k", fingerprint="cd" * 32)
    for call in (store.jobs.add(other, ROOM, CREATED), store.jobs.repeated(other)):
        with pytest.raises(InvalidRequest) as raised:
            await call
        assert raised.value.code == "idempotency_key_reused"


async def test_the_last_place_goes_to_one_of_many_at_once(store: Store) -> None:
    three, one = replace(ROOM, unfinished=3), replace(ROOM, unfinished=1)
    results = await asyncio.gather(*(added(store, f"ftjob-{n}", three) for n in range(9)), return_exceptions=True)
    refused = [one for one in results if isinstance(one, InvalidRequest)]
    assert (len(await ids(store)), len(refused)) == (3, 6)
    assert {one.code for one in refused} == {"quota_exceeded"}
    [first] = await ids(store, limit=1)
    assert await store.jobs.change(await store.jobs.get(first, "local"), status="failed")
    await added(store, "ftjob-new", three)
    await added(store, "ftjob-other", one, tenant="other")


async def test_copies_take_no_more_than_there_is_room_for_however_many_come_at_once(
    store: Store, database_url: str
) -> None:
    room = replace(ROOM, copied_bytes=100, all_copied_bytes=150)
    async with Store(database_url) as replica:
        calls = [
            added((store, replica)[n % 2], f"ftjob-{n}", room, tenant=("one", "two")[n % 2], copied_bytes=40)
            for n in range(8)
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
    made = [one for one in results if isinstance(one, FineTuningJob)]
    refused = [one for one in results if isinstance(one, InvalidRequest)]
    assert (len(made), len(refused)) == (3, 5), "80 bytes of one, 40 of the other"
    assert {(one.code, one.param) for one in refused} == {("quota_exceeded", "training_file")}
    with pytest.raises(
        InvalidRequest, match=r"room for 100 bytes of your jobs, 0 are taken, and this one's files have 101"
    ):
        await added(store, "ftjob-large", room, tenant="three", copied_bytes=101)
    with pytest.raises(InvalidRequest, match=r"room for 150 bytes of everybody's jobs, 120 are taken"):
        await added(store, "ftjob-more", room, tenant="three", copied_bytes=31)
    await store.jobs.forget_copies(made[0].run)
    assert (await store.jobs.get(made[0].id, made[0].tenant)).copied_bytes == 0
    assert await store.jobs.change(made[0], status="failed") is None, "it was changed since it was read"
    await added(store, "ftjob-more", room, tenant="three", copied_bytes=31)


async def test_pages_show_each_job_once_newest_first_and_by_metadata(store: Store) -> None:
    for number in range(7):
        pairs = {"a": "1", "b.c[0]\"'": "x"} if number != 3 else {"a": "2"}
        await added(store, f"ftjob-{number}", created_at=NOW + timedelta(seconds=number // 2), metadata=pairs)
    seen: list[str] = []
    after, more = None, True
    while more:
        page = await store.jobs.list("local", limit=2, after=after, metadata={"a": "1", "b.c[0]\"'": "x"})
        seen += [one.id for one in page.items]
        after, more = seen[-1], page.has_more
    assert seen == [f"ftjob-{number}" for number in (6, 5, 4, 2, 1, 0)]
    assert await ids(store, metadata={"a": "2"}) == ["ftjob-3"]
    assert await ids(store, metadata={"missing": "2"}) == []
    with pytest.raises(InvalidRequest):
        await store.jobs.list("local", limit=101)


async def test_of_two_changes_to_the_same_revision_one_is_made_with_its_events(store: Store) -> None:
    before = await added(store)
    results = await asyncio.gather(*(store.jobs.change(before, JobEvent(NOW, f"{n}"), attempt=n) for n in range(6)))
    [won] = [one for one in results if one is not None]
    assert won == replace(before, attempt=won.attempt, revision=1)
    assert await store.jobs.get("ftjob-1", "local") == won
    events = (await store.jobs.events("ftjob-1", "local")).items
    assert [one.message for one in events] == [f"{won.attempt}", "Created"]


async def test_events_come_in_pages_newest_first(store: Store) -> None:
    made = await added(store)
    more = [JobEvent(NOW, "m", "warning", "metrics", n, {"loss": float("nan"), "n": n}) for n in range(5)]
    assert await store.jobs.change(made, *more, indexed=5)
    first = await store.jobs.events("ftjob-1", "local", limit=4)
    assert ([one.position for one in first.items], first.has_more) == ([6, 5, 4, 3], True)
    assert first.items[0].data == {"loss": None, "n": 4}
    last = await store.jobs.events("ftjob-1", "local", limit=4, after=3)
    assert ([one.position for one in last.items], last.has_more) == ([2, 1], False)


async def test_of_a_checkpoint_that_was_saved_twice_the_last_is_listed_once(store: Store) -> None:
    made = await added(store)
    saved = [JobEvent(NOW, "saved", kind="checkpoint", step=step) for step in (1, 2, 2, 3)]
    assert await store.jobs.change(made, *saved, JobEvent(NOW, "m", kind="metrics", step=4))
    page = await store.jobs.checkpoints("ftjob-1", "local", {2, 3, 4}, limit=1)
    assert ([(one.step, one.position) for one in page.items], page.has_more) == ([(3, 5)], True)
    page = await store.jobs.checkpoints("ftjob-1", "local", {2, 3, 4}, after=5)
    assert ([(one.step, one.position) for one in page.items], page.has_more) == ([(2, 4)], False)
    assert (await store.jobs.checkpoints("ftjob-1", "local", set())).items == ()


async def test_active_jobs_are_those_for_which_something_is_to_be_done(store: Store) -> None:
    states = ("validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled")
    for number, state in enumerate(states):
        await added(store, f"ftjob-{number}", status=state, tenant=f"t{number}")
    await added(store, "ftjob-9", status="cancelled", wanted="cancel")
    assert [one.id for one in await store.jobs.active()] == ["ftjob-0", "ftjob-1", "ftjob-2", "ftjob-9"]


async def test_a_lease_is_held_by_one_until_it_ends_or_is_given_back(store: Store, database_url: str) -> None:
    async with Store(database_url) as replica:
        takes = [(store, replica)[n % 2].leases.take("x", f"h{n}", 60) for n in range(8)]
        won = await asyncio.gather(*takes)
        assert sum(won) == 1
        holder = f"h{won.index(True)}"
        assert await replica.leases.take("x", holder, 60)
        assert not await store.leases.take("x", "other", 60)
        assert await store.leases.take("y", "other", 60)
        await store.leases.give_back("x", "other")
        assert not await store.leases.take("x", "other", 60)
        await store.leases.give_back("x", holder)
        assert await store.leases.take("x", "other", 0.05)
        await asyncio.sleep(0.1)
        assert await replica.leases.take("x", "third", 60)


async def test_a_database_of_the_schema_before_gets_the_tables_and_keeps_what_it_has(database_url: str) -> None:
    url = engines.parse(database_url)
    async with Store(database_url) as store:
        key = (await store.keys.create("k", ["fine_tuning"], None, None)).key
        await added(store)
    migrate.downgrade(url, "0002")
    engine = sa.create_engine(database_url)
    assert not {"fine_tuning_jobs", "fine_tuning_metadata", "fine_tuning_events", "leases"} & set(
        sa.inspect(engine).get_table_names()
    )
    engine.dispose()
    async with Store(database_url) as store:
        assert await store.keys.list() == (key,)
        assert await ids(store) == []
