"""What only PostgreSQL does: a server that goes away, locks between servers, collations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from serve.errors import Unavailable
from serve.store import Conversation, Store

NOW = datetime(2026, 5, 17, tzinfo=UTC)


@contextmanager
def administrator(postgres_url: str) -> Iterator[sa.Connection]:
    """A connection to the server's own database."""
    engine = sa.create_engine(sa.make_url(postgres_url).set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def cut_off(administrator: sa.Connection, postgres_url: str) -> int:
    """End every connection to the database; returns how many there were."""
    query = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
    return len(administrator.execute(query, {"name": sa.make_url(postgres_url).database}).all())


async def test_connections_that_the_server_ended_are_replaced(postgres_url: str) -> None:
    async with Store(postgres_url) as store:
        await asyncio.gather(*(store.healthy() for _ in range(8)))
        with administrator(postgres_url) as server:
            assert cut_off(server, postgres_url) >= 1
        await store.conversations.add(Conversation("chatcmpl-1", "local", NOW, "m", {}, []))
        assert (await store.conversations.get("chatcmpl-1", "local")).id == "chatcmpl-1"


async def test_a_database_out_of_reach_is_unavailable_until_it_is_back(postgres_url: str) -> None:
    name = sa.make_url(postgres_url).database
    async with Store(postgres_url) as store:
        assert await store.healthy()
        with administrator(postgres_url) as server:
            server.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            cut_off(server, postgres_url)
            assert not await store.healthy()
            with pytest.raises(Unavailable) as raised:
                await store.conversations.list("local")
            assert isinstance(raised.value.__cause__, sa.exc.OperationalError)
            server.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        assert await store.healthy()


async def test_opening_while_no_server_answers_is_unavailable_and_can_be_tried_again(postgres_url: str) -> None:
    name = sa.make_url(postgres_url).database
    store = Store(postgres_url)
    with administrator(postgres_url) as server:
        server.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        with pytest.raises(Unavailable):
            await store.open()
        server.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await store.open()
    assert await store.healthy()
    await store.close()


async def test_the_migration_lock_is_given_back(postgres_url: str) -> None:
    async with Store(postgres_url):
        with administrator(postgres_url) as server:
            held = server.execute(sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).scalar_one()
    assert held == 0


async def test_every_text_column_compares_by_code_point(postgres_url: str) -> None:
    async with Store(postgres_url):
        pass
    query = (
        "SELECT table_name, column_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text'"
    )
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        columns = connection.execute(sa.text(query)).all()
    engine.dispose()
    assert len(columns) >= 15
    assert [column for column in columns if column.collation_name != "C"] == []


async def test_times_come_back_in_utc_whatever_the_servers_zone(postgres_url: str) -> None:
    name = sa.make_url(postgres_url).database
    with administrator(postgres_url) as server:
        server.exec_driver_sql(f"""ALTER DATABASE "{name}" SET timezone = 'Asia/Kathmandu'""")
    async with Store(postgres_url) as store:
        await store.conversations.add(Conversation("chatcmpl-1", "local", NOW, "m", {}, []))
        found = (await store.conversations.get("chatcmpl-1", "local")).created_at
    assert (found, found.tzinfo) == (NOW, UTC)
