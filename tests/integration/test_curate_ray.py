"""Curation over real Ray workers: the same set as without Ray, and errors that stay one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.settings.errors import SettingsError
from tests.unit.train.dataset.curate.samples import ANSWER, job, many, row, write_recipe, write_rows
from train.dataset.curate import curate
from train.dataset.disk import digest_of
from train.dataset.parallel import each, ray_for


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


def test_the_work_is_spread_and_its_errors_come_back_as_they_were() -> None:
    assert sorted(each(Square(), range(12), 2)) == [unit * unit for unit in range(12)]
    assert list(each(Square(), [], 2)) == []
    with pytest.raises(SettingsError, match="thirteen"):
        list(each(Square(), range(20), 2))


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
