"""Log probabilities of one row of logits."""

from __future__ import annotations

import numpy as np
import pytest

from serve.handlers.llamacpp.logprobs import likeliest, log_softmax


def row(*logits: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(logits, np.float32)


def test_probabilities_sum_to_one() -> None:
    logits = np.random.default_rng(0).normal(0, 20, 50_000).astype(np.float32)
    assert np.exp(log_softmax(logits)).sum() == pytest.approx(1.0)


def test_known_values_are_right() -> None:
    assert log_softmax(row(0, np.log(3))).tolist() == pytest.approx([np.log(0.25), np.log(0.75)])


def test_large_logits_do_not_overflow() -> None:
    assert log_softmax(row(1e30, 0)).tolist()[0] == pytest.approx(0.0)


def test_the_row_itself_is_left_alone() -> None:
    logits = row(1, 2, 3)
    log_softmax(logits)
    assert logits.tolist() == [1, 2, 3]


def test_the_likeliest_come_best_first() -> None:
    assert likeliest(log_softmax(row(1, 5, 3, 4)), 3) == [1, 3, 2]


def test_equal_ones_come_in_the_order_of_their_numbers() -> None:
    assert likeliest(log_softmax(row(2, 2, 2, 9)), 3) == [3, 0, 1]


def test_none_are_given_when_none_are_wanted() -> None:
    assert likeliest(log_softmax(row(1, 2)), 0) == []


def test_no_more_are_given_than_there_are() -> None:
    assert likeliest(log_softmax(row(1, 2)), 20) == [1, 0]
