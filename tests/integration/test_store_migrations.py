"""The migrations and ``python -m serve.store``, on both databases and in processes of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

import serve
from serve.store import engine as engines
from serve.store import migrate
from serve.store.__main__ import main
from serve.store.tables import Base

BROKEN = '''"""A table, and then a fault."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table("half_done", sa.Column("id", sa.Integer(), primary_key=True))
    op.execute("INSERT INTO half_done VALUES (1)")
    op.execute("SELECT no_such_column FROM half_done")
'''


def tables(database_url: str) -> set[str]:
    engine = sa.create_engine(database_url)
    try:
        return set(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def start(database_url: str, *arguments: str, folder: Path | None = None) -> subprocess.Popen[str]:
    """``python -m serve.store`` in a process of its own; ``folder`` holds the package to run."""
    root = folder or Path(serve.__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, "-m", "serve.store", *arguments, "--url", database_url],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a copy of the package, to write migrations into."""
    shutil.copytree(Path(serve.__file__).parent, tmp_path / "copy" / "serve")
    return tmp_path / "copy"


def test_the_migrated_schema_is_that_of_the_tables_in_the_code(database_url: str) -> None:
    migrate.upgrade(engines.parse(database_url))
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_a_column_that_the_migrations_lack_would_be_noticed(database_url: str) -> None:
    migrate.upgrade(engines.parse(database_url))
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE usage ADD COLUMN extra INTEGER"))
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata)
    engine.dispose()


def test_downgrading_to_base_leaves_no_table_and_upgrading_again_works(database_url: str) -> None:
    url = engines.parse(database_url)
    migrate.upgrade(url)
    made = tables(database_url)
    migrate.downgrade(url, "base")
    assert tables(database_url) == {"alembic_version"}
    assert migrate.current(url) is None
    migrate.upgrade(url)
    assert tables(database_url) == made > {"conversations", "feedback", "files", "api_keys", "usage"}


def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    url = engines.parse(database_url)
    migrate.upgrade(url)
    migrate.upgrade(url)
    assert migrate.current(url) == "0004"


def test_processes_that_migrate_one_empty_database_at_once_all_succeed(database_url: str) -> None:
    running = [start(database_url, "upgrade") for _ in range(4)]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0] * 4, errors
    assert sum("Running upgrade  -> 0001" in error for error in errors) == 1
    assert sum("Running upgrade 0001 -> 0002" in error for error in errors) == 1
    assert sum("Running upgrade 0003 -> 0004" in error for error in errors) == 1
    assert "conversations" in tables(database_url)


def test_a_migration_that_fails_half_way_changes_nothing(database_url: str, package: Path) -> None:
    (package / "serve/store/migrations/versions/0005_broken.py").write_text(BROKEN)
    migrate.upgrade(engines.parse(database_url))
    before = tables(database_url)
    failing = start(database_url, "upgrade", folder=package)
    _, errors = failing.communicate()
    assert failing.returncode and "no_such_column" in errors
    assert tables(database_url) == before
    assert migrate.current(engines.parse(database_url)) == "0004"


def test_the_command_line_upgrades_says_where_it_is_and_downgrades(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["current"], ["upgrade"], ["current"], ["downgrade", "base"], ["current"]):
        assert main([*arguments, "--url", database_url]) == 0
    assert capsys.readouterr().out.split() == ["base", "0004", "base"]


def test_the_command_line_drafts_a_migration_that_runs(database_url: str, package: Path) -> None:
    file = package / "serve/store/tables.py"
    source = file.read_text()
    changed = source.replace(
        "    completion_tokens: Mapped[int]", "    extra: Mapped[str | None]\n    completion_tokens: Mapped[int]"
    )
    assert changed != source
    file.write_text(changed)
    outputs = []
    for arguments in (["upgrade"], ["revision", "add extra"], ["upgrade"], ["current"], ["downgrade", "0004"]):
        process = start(database_url, *arguments, folder=package)
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        outputs.append(output.strip())
    assert (package / "serve/store/migrations/versions/0005_add_extra.py").exists()
    assert outputs[3] == "0005"


def test_a_draft_without_the_newest_schema_is_refused(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["revision", "too early", "--url", database_url]) == 1
    assert "not up to date" in capsys.readouterr().err


def test_an_unknown_revision_is_an_error(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upgrade", "0815", "--url", database_url]) == 1
    assert "0815" in capsys.readouterr().err


def test_rebuilding_a_sqlite_table_does_not_delete_what_refers_to_it(sqlite_url: str, package: Path) -> None:
    migrate.upgrade(engines.parse(sqlite_url))
    engine = sa.create_engine(sqlite_url)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO conversations (id, tenant, created_at, model, request, choices)"
                " VALUES ('c', 't', '2026-05-17 00:00:00.000000', 'm', '{}', '[]')"
            )
        )
        connection.execute(sa.text("INSERT INTO conversation_metadata VALUES ('c', 'k', 'v')"))
    rebuild = BROKEN[: BROKEN.index("    op.create_table")] + (
        '    with op.batch_alter_table("conversations", recreate="always") as table:\n'
        '        table.add_column(sa.Column("extra", sa.Integer()))\n'
    )
    (package / "serve/store/migrations/versions/0005_rebuild.py").write_text(rebuild)
    process = start(sqlite_url, "upgrade", folder=package)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT value FROM conversation_metadata")).all() == [("v",)]
        assert connection.execute(sa.text("SELECT extra FROM conversations")).all() == [(None,)]
    engine.dispose()
