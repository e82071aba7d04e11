"""Duplicates and personal data over Ray's workers: as in one process, whatever the number of workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from benchmarks import curate_data
from benchmarks.curate_steps import STEPS
from benchmarks.curate_truth import duplicates, groups_of_pairs, personal
from train.dataset.duplicates import (
    BrokenLine,
    DuplicateSettings,
    Here,
    LeakSettings,
    Parallelism,
    RayTasks,
    find_duplicates,
    find_leaks,
    pieces,
)

ROWS = 3000


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return curate_data.write(tmp_path_factory.mktemp("rows"), ROWS)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 500_000)


def test_any_number_of_workers_gives_the_same_result(cluster: None, shards: list[Path], tmp_path: Path) -> None:
    workers: dict[str, Parallelism] = {"here": Here(), "one": RayTasks(1), "two": RayTasks(2)}
    found = {
        name: list(find_duplicates(shards, DuplicateSettings(), tmp_path / name, workers=who))
        for name, who in workers.items()
    }
    assert found["one"] == found["two"] == found["here"]
    held_out = curate_data.write(tmp_path, 40)
    leaks = [
        list(find_leaks(shards, held_out, LeakSettings(), tmp_path / f"leaks {name}", workers=who))
        for name, who in workers.items()
    ]
    assert leaks[0] == leaks[1] == leaks[2]
    assert len(leaks[0]) >= 40


def test_what_was_planted_is_found(cluster: None, shards: list[Path], tmp_path: Path) -> None:
    for step in STEPS:
        (tmp_path / step).mkdir()
        STEPS[step](shards, tmp_path / step, RayTasks(2))
    score = duplicates(groups_of_pairs(ROWS, tmp_path / "duplicates" / "dropped.jsonl"))
    assert score.recall(lambda kind: kind == "exact") == 1
    assert score.recall(lambda kind: kind.startswith("near")) >= 0.95
    assert score.precision >= 0.98
    found, survived = personal(ROWS, tmp_path / "personal")
    assert found.recall() >= 0.99
    assert found.precision >= 0.99
    assert survived.recall() >= 0.99


def test_a_fault_in_a_task_is_raised_as_it_is(cluster: None, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n")
    with pytest.raises(BrokenLine, match=r"a\.jsonl, line 1, byte 0"):
        find_duplicates([path], DuplicateSettings(), tmp_path / "w", workers=RayTasks(2))


def test_stopping_early_leaves_no_task_waiting(cluster: None, tmp_path: Path) -> None:
    results = RayTasks(2).map(_touch, [tmp_path / str(number) for number in range(1000)])
    assert next(results) == "0"
    results.close()  # type: ignore[attr-defined]
    assert len(list(tmp_path.iterdir())) < 20


def _touch(path: Path) -> str:
    path.touch()
    return path.name
