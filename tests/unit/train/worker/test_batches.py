"""Batches: what is padded or packed learns the same, and no sequence of a pack sees another."""

from __future__ import annotations

from typing import Any

import pytest

from tests.finetuning import tiny_checkpoint
from train.dataset.formats import IGNORED
from train.worker.batches import Batches

SEQUENCES = [[5, 6, 7, 8, 9], [10, 11, 12], [13, 14, 15, 16]]


def row(*sequences: list[int]) -> dict[str, Any]:
    tokens = [token for one in sequences for token in one]
    return {"input_ids": tokens, "labels": tokens, "seq_lengths": [len(one) for one in sequences]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    found = AutoModelForCausalLM.from_pretrained(tiny_checkpoint(tmp_path_factory.mktemp("base"))).eval()
    found.config.use_cache = False
    return found


def test_padding_is_neither_seen_nor_learned() -> None:
    batch = Batches(pad=0, joined=False)([row(SEQUENCES[0]), row(SEQUENCES[1])])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [10, 11, 12, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert batch["labels"].tolist()[1] == [10, 11, 12, IGNORED, IGNORED]


def test_positions_begin_anew_with_each_sequence_of_a_pack() -> None:
    batch = Batches(pad=0, joined=True)([row(SEQUENCES[0], SEQUENCES[1]), row(SEQUENCES[2])])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3]]
    first = [place for place, label in enumerate(batch["labels"][0].tolist()) if label == IGNORED]
    assert first == [0, 5, 8]


def test_a_pack_learns_what_its_sequences_learn_alone(model: Any) -> None:
    import torch

    packed = Batches(pad=0, joined=True)([row(*SEQUENCES)])
    with torch.no_grad():
        whole = model(**packed).loss
        alone = [model(**Batches(pad=0, joined=False)([row(one)])).loss * (len(one) - 1) for one in SEQUENCES]
    learned = sum(len(one) - 1 for one in SEQUENCES)
    assert float(whole) == pytest.approx(float(sum(alone)) / learned, rel=1e-5)
