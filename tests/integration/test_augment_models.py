"""Augmentation by real models of a real gateway, over HTTP; and preparation spread over Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.settings.model import ModelSettings
from serve.settings.upstream import UpstreamEngine
from tests.llamacpp import loaded
from tests.unit.gateway.group import group, listening
from tests.unit.train.dataset.formats import models
from tests.unit.train.dataset.formats.rows import answer, row, user
from train.dataset.augment import AugmentSettings, augment
from train.dataset.formats import PrepareSettings, SplitSettings, load_prepared, prepare
from train.dataset.rows import Row

ALL = SplitSettings(train=1, validation=0)
QUESTIONS = [
    "What is the capital of France, and how many people live there?",
    "How can I sort a list of numbers in Python without changing it?",
    "Why does bread rise when it is left in a warm place for an hour?",
    "Which tools do I need to change the tyre of my bicycle on the road?",
]


def write(path: Path, rows: list[Row]) -> Path:
    path.write_bytes(b"".join(one.to_json() for one in rows))
    return path


async def test_a_qwen_of_the_group_paraphrases_and_its_rows_go_into_the_training(
    tmp_path: Path, qwen_settings: ModelSettings
) -> None:
    rows = [row(user(text), answer("Yes."), id=f"openai:{number}") for number, text in enumerate(QUESTIONS)]
    path = write(tmp_path / "rows.jsonl", rows)
    settings = AugmentSettings(kind="paraphrase", copies=2, max_tokens=80, split=ALL)
    async with (
        loaded(qwen_settings, context=2048, slots=4) as handler,
        group(tmp_path / "store", handler) as gateway,
        listening(gateway.app) as address,
    ):
        server = UpstreamEngine(base_url=f"http://{address}/v1", model=qwen_settings.id, max_connections=4)
        done = await asyncio.to_thread(augment, [path], tmp_path / "more.jsonl", settings, server)
    made = [Row.from_json(line) for line in (tmp_path / "more.jsonl").read_bytes().splitlines()]
    assert done.written == len(made) >= 3
    assert done.written + done.repeated + sum(done.refused.values()) == 8
    assert done.tokens > 8 * 50
    for one in made:
        assert one.provenance.augmented is not None and one.provenance.augmented.model == qwen_settings.id
        assert one.messages[0].content not in QUESTIONS
    tally = prepare([path, tmp_path / "more.jsonl"], tmp_path / "out", PrepareSettings(form="chat", split=ALL))
    assert tally.splits["train"].rows == 4 + len(made)


@pytest.fixture(scope="module")
def ray_runs() -> Iterator[None]:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("ray_runs")
def test_two_workers_make_the_same_folder_as_none(tmp_path: Path) -> None:
    models.chat().tokenizer.save_pretrained(tmp_path / "model")
    # More than one piece of 4 MiB, so that both have work.
    rows = [row(user("?" * (n % 50 + 1)), answer("a" * 1500), id=f"openai:{n}") for n in range(3000)]
    path = write(tmp_path / "rows.jsonl", rows)
    settings = PrepareSettings(split=SplitSettings(train=1, validation=1))
    for workers in (0, 2):
        prepare([path], tmp_path / f"out{workers}", settings, model=str(tmp_path / "model"), workers=workers)
    for name in ("data/train.parquet", "data/validation.parquet", "manifest.json", "README.md"):
        assert (tmp_path / "out0" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()
    assert load_prepared(tmp_path / "out2").manifest["read"] == 3000
