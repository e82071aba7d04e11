"""One cluster, one tiny model, and runs that nothing happens to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.finetuning import folder, tiny_checkpoint, undisturbed_run, write_chats, write_uneven
from train.finetune.job import Job


@pytest.fixture(scope="package", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="package")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="package")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chats(tmp_path_factory.mktemp("data") / "chats.jsonl")


@pytest.fixture(scope="package")
def others(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Conversations to judge by."""
    return str(write_uneven(tmp_path_factory.mktemp("data") / "others.jsonl"))


@pytest.fixture(scope="package")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="package")
def undisturbed(base: Path, chats: Path, others: str, runs: Path) -> Job:
    """A run from its beginning to its end; of seconds, so that something can happen meanwhile."""
    return undisturbed_run(base, chats, others, folder(runs, "whole"), workers=1)


@pytest.fixture(scope="package")
def undisturbed_by_two(base: Path, chats: Path, others: str, runs: Path) -> Job:
    """The same of two workers, by the engine that starts sooner."""
    return undisturbed_run(base, chats, others, folder(runs, "whole-by-two"), workers=2, engine="peft")
