"""The loss on the validation data: each token or pair counts once, in whatever batch and at whichever worker."""

from __future__ import annotations

import math
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from train.dataset.formats import IGNORED
from train.worker.batches import Batches, filled
from train.worker.judged import ValidationLoss

#: Mean loss and answer tokens of batches that differ.
BATCHES = [(4.0, 1), (1.0, 98), (7.0, 1)]
MEAN = (4.0 + 98.0 + 7.0) / 100


def added(batches: list[tuple[float, int]]) -> ValidationLoss:
    found = ValidationLoss()
    for loss, answers in batches:
        found.add(loss, answers)
    return found


def test_a_batch_weighs_as_much_as_it_has_answer_tokens() -> None:
    assert added(BATCHES).mean() == pytest.approx(MEAN)


def test_a_batch_without_answers_counts_for_nothing_whatever_its_loss_is_said_to_be() -> None:
    assert added([*BATCHES, (math.nan, 0)]).mean() == pytest.approx(MEAN)
    assert math.isnan(added([(math.nan, 0)]).mean())


def test_blank_pairs_of_a_batch_count_for_nothing() -> None:
    found = ValidationLoss()
    found.add_pairs(0.4, 4, 0)
    found.add_pairs((0.9 + math.log(2)) / 2, 1, 1)
    found.add_pairs(math.log(2), 0, 2)
    assert found.mean() == pytest.approx((4 * 0.4 + 0.9) / 5)


def worker(rank: int, meeting: str, batches: list[tuple[float, int]], said: Any) -> None:
    import torch.distributed

    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    said.put(added(batches).mean())
    torch.distributed.destroy_process_group()


def test_two_workers_come_to_what_one_alone_would(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("spawn")
    said = processes.Queue()
    shares = [BATCHES[:1], BATCHES[1:]]
    workers = [
        processes.Process(target=worker, args=(rank, str(tmp_path / "meeting"), share, said))
        for rank, share in enumerate(shares)
    ]
    for one in workers:
        one.start()
    found = [said.get(timeout=120) for _ in workers]
    for one in workers:
        one.join(30)
    assert found == [pytest.approx(MEAN)] * 2


@pytest.mark.parametrize(("count", "multiple"), [(5, 4), (4, 4), (1, 6), (3, 1)])
def test_rows_are_filled_up_with_some_of_which_nothing_is_learned(count: int, multiple: int) -> None:
    rows = Dataset.from_list(
        [{"input_ids": [n, 2, 3], "labels": [IGNORED, 2, 3], "seq_lengths": [3]} for n in range(count)]
    )
    found = filled(rows, "sft", multiple)
    assert len(found) % multiple == 0 and 0 <= len(found) - count < multiple
    assert found.features == rows.features
    assert list(found.select(range(count))) == list(rows)
    for batches in (Batches(0, joined=False), Batches(0, joined=True)):
        labels = batches(list(found))["labels"]
        assert int((labels[:, 1:] != IGNORED).sum()) == 2 * count


def test_pairs_are_filled_up_with_some_that_have_no_answers() -> None:
    pairs = [{"prompt_ids": [n, 2, 3], "chosen_ids": [4], "rejected_ids": [5, 6]} for n in range(3)]
    rows = Dataset.from_list(pairs)
    found = filled(rows, "dpo", 4)
    assert list(found)[:3] == pairs and found.features == rows.features
    assert [(one["chosen_ids"], one["rejected_ids"]) for one in list(found)[3:]] == [([], [])]
    assert filled(rows, "dpo", 3) is rows
