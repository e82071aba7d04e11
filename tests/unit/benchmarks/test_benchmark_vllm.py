"""The benchmark of the vLLM handler: what both servers are started with, and the report."""

from __future__ import annotations

import pytest

from benchmarks.rounds import GROUP, Point, markdown
from benchmarks.streams import StreamSample
from benchmarks.vllm import VLLM, bar_rows, flags, model_args
from serve.settings.model import ModelSettings


def sample(speed: float, first: float) -> StreamSample:
    return StreamSample(answers=3, tokens_per_second=speed, first_token_p50=first, gap_p50=1.0, gap_most=2.0)


def test_the_model_is_that_of_the_config_without_lora() -> None:
    settings = ModelSettings.model_validate(model_args())
    assert (settings.handler, settings.engine.model_dump()["adapters"]) == ("vllm", 0)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"enforce_eager": True, "enable_lora": False}, ["--enforce-eager", "--no-enable-lora"]),
        ({"max_num_seqs": 4, "dtype": "float32"}, ["--max-num-seqs", "4", "--dtype", "float32"]),
        ({"served_model_name": ["m"], "limit_mm_per_prompt": {}}, ["--served-model-name", "m"]),
    ],
)
def test_arguments_become_flags(arguments: dict[str, object], found: list[str]) -> None:
    assert flags(arguments) == found


def test_ratios_are_taken_within_a_round() -> None:
    ours = [sample(100.0, 10.0), sample(50.0, 20.0), sample(80.0, 10.0)]
    theirs = [sample(100.0, 10.0), sample(25.0, 10.0), sample(100.0, 10.0)]
    results = {Point(4): {GROUP: ours, VLLM: theirs}}
    text = markdown("vLLM", {"machine": "here"}, bar_rows(results), results)
    assert "| tokens/s over vllm serve, 4 streams | 1.00 | 0.80..2.00 | at least 0.95 | met |" in text
    assert "| first token over vllm serve, 4 streams | 1.00 | 1.00..2.00 | at most 1.1 | met |" in text
    assert "| 4 streams | group | 80.0 | 50.0..100 | 10.0 | 1.00 | 2.00 |" in text
