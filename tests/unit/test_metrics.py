"""Counters that are summed before Ray hears of them."""

from __future__ import annotations

from serve.metrics import SummedCounter


class Heard(SummedCounter):
    """A summed counter whose reports to Ray are kept, besides being made."""

    def __init__(self) -> None:
        super().__init__("groupqwen_test", "For this test.", ("model", "kind"))
        self.amounts: list[tuple[int, dict[str, str]]] = []

    def _hand_over(self, amount: int, labels: dict[str, str]) -> None:
        super()._hand_over(amount, labels)
        self.amounts.append((amount, labels))


def test_amounts_are_handed_over_once_and_together() -> None:
    counter = Heard()
    counter.add(2, "a", "prompt")
    counter.add(3, "a", "prompt")
    counter.add(5, "b", "prompt")
    assert counter.amounts == []
    counter.report()
    counter.report()
    assert counter.amounts == [(5, {"model": "a", "kind": "prompt"}), (5, {"model": "b", "kind": "prompt"})]


def test_nothing_is_said_of_an_amount_of_nothing() -> None:
    counter = Heard()
    counter.add(0, "a", "prompt")
    counter.report()
    assert counter.amounts == []
