"""Opening, closing, outages and cancellation of the store, on both databases."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.orm import Session

from serve.errors import Conflict, Unavailable
from serve.store import Conversation, Store, migrate

NOW = datetime(2026, 5, 17, tzinfo=UTC)


def conversation(id: str) -> Conversation:
    return Conversation(id, "local", NOW, "m", {"messages": []}, [{"index": 0}], metadata={"a": "b"})


@contextmanager
def writes_held_up(database_url: str) -> Iterator[None]:
    """While inside, every write to the database waits, and reads do not."""
    engine = sa.create_engine(database_url, isolation_level="AUTOCOMMIT")
    hold = "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else "BEGIN; LOCK TABLE conversations IN SHARE MODE"
    with engine.connect() as connection:
        connection.exec_driver_sql(hold)
        try:
            yield
        finally:
            connection.exec_driver_sql("ROLLBACK")
    engine.dispose()


async def test_what_is_stored_outlives_the_store(database_url: str) -> None:
    async with Store(database_url) as first:
        await first.conversations.add(conversation("chatcmpl-1"))
    async with Store(database_url) as second:
        assert await second.conversations.get("chatcmpl-1", "local") == conversation("chatcmpl-1")


async def test_one_store_reads_what_another_has_just_written(store: Store, database_url: str) -> None:
    async with Store(database_url) as second:
        await store.conversations.add(conversation("chatcmpl-1"))
        assert await second.conversations.get("chatcmpl-1", "local") == conversation("chatcmpl-1")


async def test_stores_that_open_an_empty_database_at_once_all_work(database_url: str) -> None:
    stores = [Store(database_url) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.conversations.add(conversation(str(i))) for i, store in enumerate(stores)))
    assert len((await stores[0].conversations.list("local")).items) == 4
    await asyncio.gather(*(store.close() for store in stores))


async def test_stores_of_many_databases_open_at_once_in_one_process(tmp_path: Path, postgres_url: str) -> None:
    stores = [Store(f"sqlite:///{tmp_path}/{number}/store.db") for number in range(8)] + [Store(postgres_url)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        await store.conversations.add(conversation("chatcmpl-1"))
        await store.close()


async def test_opening_waits_for_the_process_that_migrates(database_url: str, tmp_path: Path) -> None:
    store = Store(database_url)
    with ExitStack() as migrating:
        if database_url.startswith("sqlite"):
            migrating.enter_context(FileLock(tmp_path / "store.db.lock"))
        else:
            engine = sa.create_engine(database_url)
            migrating.callback(engine.dispose)
            connection = migrating.enter_context(engine.connect())
            connection.execute(sa.select(sa.func.pg_advisory_lock(migrate.ADVISORY_LOCK)))
        opening = asyncio.create_task(store.open())
        finished, _ = await asyncio.wait([opening], timeout=1)
        assert not finished
    await opening
    assert await store.healthy()
    await store.close()


async def test_a_store_can_be_closed_twice_and_opened_again(database_url: str) -> None:
    store = Store(database_url)
    await store.close()
    for _ in range(2):
        await store.open()
        assert await store.healthy()
        await store.close()
        await store.close()


async def test_an_open_store_refuses_to_open_again(store: Store) -> None:
    with pytest.raises(RuntimeError, match="already open"):
        await store.open()
    assert await store.healthy()


async def test_a_closed_store_says_so(database_url: str) -> None:
    store = Store(database_url)
    with pytest.raises(RuntimeError, match="not open"):
        await store.conversations.get("chatcmpl-1", "local")
    with pytest.raises(RuntimeError, match="not open"):
        await store.healthy()


async def test_the_event_loop_and_reads_go_on_while_a_write_waits(store: Store, database_url: str) -> None:
    with writes_held_up(database_url):
        writing = asyncio.create_task(store.conversations.add(conversation("chatcmpl-1")))
        for _ in range(5):
            assert (await store.conversations.list("local")).items == ()
        assert not writing.done()
    await writing
    assert len((await store.conversations.list("local")).items) == 1


async def test_a_write_is_carried_out_though_its_caller_is_cancelled(store: Store, database_url: str) -> None:
    with writes_held_up(database_url):
        # More than there are threads, so that some have not begun when they are cancelled.
        writing = [asyncio.create_task(store.conversations.add(conversation(str(i)))) for i in range(10)]
        await asyncio.sleep(0)
        for task in writing:
            task.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*writing, return_exceptions=True)
        )
    await store.close()
    async with Store(database_url) as again:
        found = await again.conversations.list("local", metadata={"a": "b"})
    assert sorted(item.id for item in found.items) == [str(i) for i in range(10)]


async def test_closing_finishes_the_writes_under_way(store: Store, database_url: str) -> None:
    writing = [asyncio.create_task(store.conversations.add(conversation(str(i)))) for i in range(10)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writing)
    async with Store(database_url) as again:
        assert len((await again.conversations.list("local")).items) == 10


async def test_the_failure_of_a_cancelled_write_is_logged_without_its_text(
    store: Store, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = Conversation("1", "local", NOW, "m", {"messages": ["private words"]}, [])
    await store.conversations.add(secret)
    with writes_held_up(database_url):
        writing = asyncio.create_task(store.conversations.add(secret))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    with caplog.at_level(logging.ERROR):
        await store.close()
        while not caplog.records:
            await asyncio.sleep(0.01)
    (record,) = caplog.records
    assert record.exc_info and isinstance(record.exc_info[1], Conflict)
    assert "private words" not in caplog.text


async def test_sqlite_makes_its_folder_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a 100% new 你好" / "folder"
    async with Store(f"sqlite:///{folder}/store.db") as store:
        assert await store.healthy()
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_sqlite_is_set_up_for_many_readers_and_one_patient_writer(sqlite_url: str) -> None:
    def pragmas(session: Session) -> dict[str, object]:
        names = ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        return {name: session.scalar(sa.text(f"PRAGMA {name}")) for name in names}

    async with Store(sqlite_url) as store:
        found = await store._database.read(pragmas)
    assert found == {"journal_mode": "wal", "busy_timeout": 10_000, "foreign_keys": 1, "synchronous": 1}


async def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "notes.db"
    file.write_text("These are notes, more than a hundred bytes of them. " * 10)
    with pytest.raises(sa.exc.DatabaseError):
        await Store(f"sqlite:///{file}").open()
    assert file.read_text().startswith("These are notes")


async def test_a_sqlite_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        await Store(f"sqlite:///{tmp_path}/file/store.db").open()


async def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    async with Store(database_url):
        pass
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(Exception, match="9999"):
        await Store(database_url).open()


async def test_sqlite_out_of_reach_is_unavailable_and_unhealthy(sqlite_url: str, tmp_path: Path) -> None:
    async with Store(sqlite_url) as store:
        for file in tmp_path.iterdir():
            file.unlink()
        (tmp_path / "store.db").mkdir()
        assert not await store.healthy()
        with pytest.raises(Unavailable) as raised:
            await store.conversations.list("local")
    assert isinstance(raised.value.__cause__, sa.exc.OperationalError)
