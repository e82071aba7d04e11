"""Real processes: they wait for each other, and what a killed one leaves is taken up again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve.models import ModelSourceError, local_path, remove, verify
from tests.unit.models.files import CONTENT, FILES, contents, folder_of, names_in, weights_of, write_config
from tests.unit.models.web import Page, Site, serving

_WAITING = "another process is fetching tiny; waiting\n"


@pytest.fixture
def config(tmp_path: Path, site: Site) -> Path:
    """A config of the model ``tiny``, of which the server sends the first half, and the rest when told to."""
    site.hold = 500_000
    return write_config(tmp_path / "group.yaml", tiny=weights_of({"url": site.url}).model_dump(exclude_none=True))


def _command(config: Path) -> list[str]:
    return [sys.executable, "-m", "serve.models", "fetch", "--config", str(config)]


def _environment(root: Path) -> dict[str, str]:
    return os.environ | {"GROUPQWEN_MODELS_DIR": str(root)}


@contextmanager
def _fetching(config: Path, root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that fetches; killed at the end if it still runs."""
    process = subprocess.Popen(
        _command(config), env=_environment(root), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _wait_for_half(root: Path) -> None:
    """Wait until the first half is on disk, near enough: the last piece may still be on its way."""
    part = root / "tiny" / "model.gguf.part"
    while not part.exists() or part.stat().st_size < 400_000:
        time.sleep(0.01)


def _wait_for_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stderr is not None
    assert process.stderr.readline() == line


def test_a_second_process_waits_and_takes_what_the_first_fetched(root: Path, site: Site, config: Path) -> None:
    with _fetching(config, root) as first:
        _wait_for_half(root)
        with _fetching(config, root) as second:
            _wait_for_line(second, _WAITING)
            site.go.set()
            outputs = [process.communicate() for process in (first, second)]
        assert (first.returncode, second.returncode) == (0, 0)
    assert outputs[1] == (f"tiny: {root}/tiny/model.gguf\n", "")
    assert outputs[0][0] == outputs[1][0]
    assert len(site.asked) == 1


def test_a_killed_fetch_is_taken_up_by_the_next_process(root: Path, site: Site, config: Path) -> None:
    with _fetching(config, root) as killed:
        _wait_for_half(root)
        killed.kill()
        killed.wait()
    assert names_in(root / "tiny") == {"model.gguf.part", "model.gguf.origin"}
    kept = (root / "tiny" / "model.gguf.part").stat().st_size
    site.go.set()
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT
    assert site.headers("Range") == [None, f"bytes={kept}-"]
    assert site.headers("If-Range") == [None, '"v1"']


def test_a_waiting_process_takes_over_from_a_killed_one(root: Path, site: Site, config: Path) -> None:
    with _fetching(config, root) as first:
        _wait_for_half(root)
        with _fetching(config, root) as second:
            _wait_for_line(second, _WAITING)
            first.kill()
            site.go.set()
            second.communicate()
        assert second.returncode == 0
    assert (root / "tiny" / "model.gguf").read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_an_interrupt_leaves_the_part_and_no_manifest(root: Path, config: Path) -> None:
    with _fetching(config, root) as process:
        _wait_for_half(root)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted; run it again to go on where it stopped"
    assert "Traceback" not in errors
    assert names_in(root / "tiny") == {"model.gguf.part", "model.gguf.origin"}


def test_a_file_that_is_being_fetched_cannot_be_removed(root: Path, config: Path) -> None:
    with _fetching(config, root):
        _wait_for_half(root)
        with pytest.raises(ModelSourceError, match="tiny: another process is fetching it"):
            remove("tiny", root=root)


def test_a_file_that_is_being_fetched_cannot_be_verified(root: Path, site: Site, config: Path) -> None:
    with _fetching(config, root):
        _wait_for_half(root)
        with pytest.raises(ModelSourceError, match="tiny: there is no file yet"):
            verify("tiny", weights_of({"url": site.url}), root=root)


def test_a_terminal_gets_a_bar_with_bytes_and_rate(root: Path, site: Site, config: Path) -> None:
    site.hold, site.pause = None, 0.1
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    subprocess.run(_command(config), env=_environment(root), stderr=theirs, stdout=subprocess.DEVNULL, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert re.search(r"tiny: +[1-9]\d*%\|.*\| \d+k/1\.00M \[00:\d\d<00:\d\d, +[\d.]+kB/s\]", shown)


def test_threads_of_one_process_fetch_once(root: Path, site: Site) -> None:
    site.pause = 0.02
    weights = weights_of({"url": site.url})
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: local_path("tiny", weights, root=root), range(8)))
    assert paths == {root / "tiny" / "model.gguf"}
    assert len(site.asked) == 1


def test_a_killed_fetch_of_a_folder_is_taken_up_by_the_next_process(root: Path, tmp_path: Path) -> None:
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    files = {name: FILES[name] for name in names}
    pages = {f"/{name}": Page(content) for name, content in files.items()}
    with serving(Site(pages=pages)) as site:
        weights = folder_of({"url": f"http://127.0.0.1:{site.port}"}, files=files, entry=names[0])
        config = write_config(tmp_path / "folder.yaml", tiny=weights.model_dump(exclude_none=True))
        site.hold = 262_144  # In both files; the first goes on once the test has seen it.
        with _fetching(config, root) as process:
            _wait_for_bytes(root / "tiny" / "checkpoint.part", 200_000)
            process.kill()
            process.wait()
        assert names_in(root / "tiny") == {"checkpoint.part", "checkpoint.origin"}
        site.go.set()
        assert contents(local_path("tiny", weights, root=root).parent) == files
        assert [path for path, _ in site.asked] == [f"/{names[0]}", f"/{names[0]}", f"/{names[1]}"]
        assert site.headers("Range")[0] is None and site.headers("Range")[1] is not None
    assert names_in(root / "tiny") == {"checkpoint", "checkpoint.json"}


def _wait_for_bytes(folder: Path, size: int) -> None:
    """Wait until the files in a folder have so many bytes."""
    while not folder.exists() or sum(file.stat().st_size for file in folder.iterdir()) < size:
        time.sleep(0.01)
