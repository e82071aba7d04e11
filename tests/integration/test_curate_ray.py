"""Work over real Ray workers: in order, and again where a worker is lost; curation makes the same set as without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serve.settings.errors import SettingsError
from tests.unit.train.dataset.curate.samples import ANSWER, job, many, row, write_recipe, write_rows
from train.dataset.curate import curate
from train.dataset.disk import digest_of
from train.dataset.parallel import WorkersFailed, each, ray_for


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    with ray_for(2):
        yield


def tree(out: Path) -> dict[str, str]:
    """Every file of a set, by its hash."""
    files = [path for path in out.rglob("*") if path.is_file() and ".work" not in path.parts]
    return {str(path.relative_to(out)): digest_of(path) for path in files}


class Square:
    """A task that cannot do everything."""

    def __call__(self, unit: int) -> int:
        if unit == 13:
            raise SettingsError("thirteen")
        return unit * unit


@dataclass
class Noted:
    """A task that leaves a file for each unit, and one for each process that it comes to."""

    folder: Path

    def __call__(self, unit: int) -> int:
        (self.folder / str(unit)).touch()
        return os.getpid()

    def __setstate__(self, state: dict[str, Path]) -> None:
        vars(self).update(state)
        (self.folder / f"came-{os.getpid()}").open("ab").write(b".")


@dataclass
class Dies:
    """A task whose process dies at unit 2, as often as it is told."""

    folder: Path
    times: int

    def __call__(self, unit: int) -> int:
        died = len(list(self.folder.iterdir()))
        if unit == 2 and died < self.times:
            (self.folder / str(died)).touch()
            os._exit(1)
        return unit


def test_the_work_is_spread_and_its_errors_come_back_as_they_were() -> None:
    assert list(each(Square(), range(12), 2)) == [unit * unit for unit in range(12)]
    assert list(each(Square(), [], 2)) == []
    with pytest.raises(SettingsError, match="thirteen"):
        list(each(Square(), range(20), 2))


def test_a_task_comes_once_to_each_process(tmp_path: Path) -> None:
    processes = set(each(Noted(tmp_path), range(40), 2))
    assert {path.name: path.read_text() for path in tmp_path.glob("came-*")} == {
        f"came-{id}": "." for id in processes
    }


def test_who_stops_early_has_started_no_more_than_was_needed(tmp_path: Path) -> None:
    results = each(Noted(tmp_path), range(1000), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(list(tmp_path.iterdir())) < 20


def test_the_unit_of_a_lost_worker_is_done_again_but_not_for_ever(tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    assert list(each(Dies(tmp_path / "once", 1), range(4), 2)) == [0, 1, 2, 3]
    (tmp_path / "always").mkdir()
    with pytest.raises(WorkersFailed, match="a Ray worker failed"):
        list(each(Dies(tmp_path / "always", 1000), range(4), 2))


def test_two_workers_make_the_same_set_as_none(tmp_path: Path) -> None:
    rows = [*many(9000), row("My mail is jane.doe@example.com?", ANSWER, id="mail"), row("How?", ANSWER, id="copy")]
    names = [write_rows(tmp_path / f"{part}.jsonl", rows[part::3]) for part in range(3)]
    recipe = write_recipe(
        tmp_path / "recipe.yaml",
        {"step": "language"},
        {"step": "personal", "names": "off"},
        {"step": "duplicates"},
        {"step": "sample", "rows": 5000},
        {"step": "length"},
    )
    for count in (0, 2):
        curate(job(names, recipe, tmp_path / str(count), workers=count))
    assert tree(tmp_path / "2") == tree(tmp_path / "0")
