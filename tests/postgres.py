"""A private PostgreSQL server for the tests, and the fixtures that run a test on both databases.

Use in a test module: ``pytest_plugins = ["tests.postgres"]``. The server is Debian's package ``postgresql``; it
listens on a unix socket in a folder that only its user can enter, and on no network address.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from serve.store import Store

DATABASES = ["sqlite", "postgresql"]


# Waits until its input ends, which it does when the tests end in any way, killed ones too.
_STOP_WHEN_ALONE = """
cat
[ ! -e "$2/data/postmaster.pid" ] || "$1/pg_ctl" stop -w -m immediate -D "$2/data"
rm -r "$2"
"""


class Cluster:
    """A running server, stopped and removed when the object is closed or its process ends.

    Attributes:
        folder: its files and its socket. user: who owns them, and its superuser.
    """

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._numbers = count()
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        # Not pytest's folder: the server's user could not enter it, and a socket's path has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="groupqwen-postgres-"))
        shutil.chown(self.folder, self.user)
        self._keeper = self._start(["sh", "-c", _STOP_WHEN_ALONE, "sh", str(binaries), str(self.folder)], "stop")

    def start(self) -> None:
        """Make the cluster and start its server."""
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", self.user, "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-F -c listen_addresses='' -c max_connections=200 -k '{self.folder}'"
        self._run("pg_ctl", "start", "-w", "-D", data, "-o", options)

    def close(self) -> None:
        """Stop the server and remove its files."""
        self._keeper.communicate()
        if self.folder.exists():
            pytest.fail(f"PostgreSQL could not be stopped; see {self.folder}", pytrace=False)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database, dropped at the end."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(host=str(self.folder), user=self.user, dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
            yield f"postgresql+psycopg://{self.user}@/{name}?host={self.folder}"
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def _run(self, program: str, *arguments: str) -> None:
        process = self._start([str(self._binaries / program), *arguments], program)
        process.communicate()
        if process.returncode:
            log = (self.folder / f"{program}.log").read_text()
            pytest.fail(f"PostgreSQL's {program} failed:\n{log}", pytrace=False)

    def _start(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        # The server refuses to run as root. Output goes to a file: the server would hold a pipe open.
        other = self.user if os.geteuid() == 0 else None
        with (self.folder / f"{name}.log").open("wb") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=other,
                group=other and pwd.getpwnam(other).pw_gid,
                extra_groups=[] if other else None,
                cwd="/",
                # A signal to the tests' group, such as Ctrl-C, is for the tests alone.
                start_new_session=True,
            )


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if not found:
        pytest.fail("The store's tests need PostgreSQL's server: apt-get install -y postgresql", pytrace=False)
    return found[-1]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    cluster = Cluster(_binaries())
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def postgres_url(postgres: Cluster) -> Iterator[str]:
    with postgres.database() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    # Looked up by name, so that a run of the SQLite tests alone needs no server.
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url = request.getfixturevalue(name)
    assert isinstance(url, str)
    return url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with Store(database_url) as opened:
        yield opened
