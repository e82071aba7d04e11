"""Duplicates and personal data over Ray's workers: as in one process, whatever the number of workers."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks import curate_data
from benchmarks.curate_steps import STEPS
from benchmarks.curate_truth import duplicates, groups_of_pairs, personal
from train.dataset.duplicates import (
    BrokenLine,
    Decision,
    DuplicateSettings,
    LeakSettings,
    find_duplicates,
    find_leaks,
    pieces,
)

ROWS = 3000


@pytest.fixture(scope="module")
def driver() -> Iterator[ProcessPoolExecutor]:
    """A process with Ray: whether Ray asks for a token is settled when it is first imported, as it may be here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context, initializer=start_ray) as executor:
            yield executor


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return curate_data.write(tmp_path_factory.mktemp("rows"), ROWS)


def start_ray() -> None:
    import ray

    pieces.PIECE_BYTES = 500_000
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)


def found(shards: list[Path], workdir: Path, workers: int) -> list[Decision]:
    return list(find_duplicates(shards, DuplicateSettings(), workdir, workers=workers))


def leaks(shards: list[Path], held_out: list[Path], workdir: Path, workers: int) -> list[Decision]:
    return list(find_leaks(shards, held_out, LeakSettings(), workdir, workers=workers))


def test_any_number_of_workers_gives_the_same_result(
    driver: ProcessPoolExecutor, shards: list[Path], tmp_path: Path
) -> None:
    here = list(find_duplicates(shards, DuplicateSettings(), tmp_path / "0"))
    assert len(here) > ROWS / 10
    for workers in (1, 2):
        assert driver.submit(found, shards, tmp_path / str(workers), workers).result() == here


def test_leaks_are_the_same_too(driver: ProcessPoolExecutor, shards: list[Path], tmp_path: Path) -> None:
    held_out = curate_data.write(tmp_path, 40)
    here = list(find_leaks(shards, held_out, LeakSettings(), tmp_path / "0"))
    assert len(here) >= 40
    assert driver.submit(leaks, shards, held_out, tmp_path / "2", 2).result() == here


def run_step(step: str, shards: list[Path], out: Path) -> None:
    out.mkdir()
    STEPS[step](shards, out, 2)


def test_what_was_planted_is_found(driver: ProcessPoolExecutor, shards: list[Path], tmp_path: Path) -> None:
    for step in STEPS:
        driver.submit(run_step, step, shards, tmp_path / step).result()
    score = duplicates(groups_of_pairs(ROWS, tmp_path / "duplicates" / "dropped.jsonl"))
    assert score.recall(lambda kind: kind == "exact") == 1
    assert score.recall(lambda kind: kind.startswith("near")) >= 0.95
    assert score.precision >= 0.98
    hits, survived = personal(ROWS, tmp_path / "personal")
    assert hits.recall() >= 0.99
    assert hits.precision >= 0.99
    assert survived.recall() >= 0.99


def test_a_fault_in_a_task_is_raised_as_it_is(driver: ProcessPoolExecutor, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n")
    with pytest.raises(BrokenLine, match=r"a\.jsonl, line 1, byte 0"):
        driver.submit(found, [path], tmp_path / "w", 2).result()
