"""When a run stops early."""

from __future__ import annotations

import pytest

from train.worker.watch import gains_nothing


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "over"),
    [
        ([], 1, 0.0, False),
        ([1.0], 1, 0.0, False),
        ([1.0, 1.0], 1, 0.0, True),
        ([1.0, 0.9], 1, 0.0, False),
        ([1.0, 0.95], 1, 0.1, True),
        ([1.0, 0.5, 0.6, 0.7], 2, 0.0, True),
        ([1.0, 0.5, 0.6, 0.7], 3, 0.0, False),
        ([1.0, 0.5, 0.6, 0.4], 2, 0.0, False),
        ([float("nan"), 1.0], 1, 0.0, False),
    ],
)
def test_it_stops_when_the_last_losses_are_no_better(
    losses: list[float], patience: int, min_delta: float, over: bool
) -> None:
    assert gains_nothing(losses, patience, min_delta) is over
