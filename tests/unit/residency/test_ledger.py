"""Who gets memory, who waits, and who makes room."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.residency.ledger import IDLE_SECONDS, NOTHING, Holder, Ledger, Report, State
from serve.residency.need import PROCESS_BYTES


class Node:
    """A ledger, a clock that a test turns, and replicas by their models' names.

    Args:
        room: bytes for models, beside those of ``replicas`` processes.
    """

    def __init__(self, room: int, replicas: int) -> None:
        self.now = 100.0
        self.spoken = 0
        self.ledger = Ledger(room + replicas * PROCESS_BYTES, clock=lambda: self.now)
        self.holders: dict[str, Holder] = {}

    def tell(self, model: str, state: State, need: int = 10, **more: Any) -> Holder:
        """Let a replica say what it holds; on demand unless told otherwise."""
        self.spoken += 1
        holder = self.holders.setdefault(model, Holder(self.spoken, 0.0))
        self.ledger.take(holder, Report(model, state, need, **{"on_demand": True} | more))
        return holder

    def idle(self, model: str, seconds: float = 60.0, need: int = 10) -> Holder:
        return self.tell(model, "loaded", need, idle_seconds=seconds)

    def granted(self, model: str) -> bool:
        return self.ledger.reply(self.holders[model]).granted

    def asked_to_unload(self) -> set[str]:
        return {model for model, holder in self.holders.items() if self.ledger.reply(holder).unload}


def test_a_model_is_loaded_while_there_is_room() -> None:
    node = Node(20, 2)
    node.tell("a", "waiting")
    node.tell("b", "waiting")
    assert node.granted("a") and node.granted("b")


def test_what_was_granted_is_held_before_its_holder_says_so() -> None:
    node = Node(15, 2)
    node.tell("a", "waiting")
    node.tell("b", "waiting")
    assert node.granted("a")
    assert not node.granted("b")


def test_a_grant_that_was_not_heard_is_given_again_and_not_counted_twice() -> None:
    node = Node(10, 1)
    node.tell("a", "waiting")
    assert node.granted("a")
    node.tell("a", "waiting")
    assert node.granted("a")


def test_a_grant_that_is_not_wanted_any_more_is_free_again() -> None:
    node = Node(10, 2)
    node.tell("a", "waiting")
    node.tell("b", "waiting")
    assert node.granted("a")
    node.tell("a", "resting")
    assert node.granted("b")


def test_the_least_recently_used_idle_model_goes() -> None:
    node = Node(30, 4)
    node.idle("old", 50)
    node.idle("older", 80)
    node.idle("new", 5)
    node.tell("d", "waiting")
    assert not node.granted("d")
    assert node.asked_to_unload() == {"older"}
    node.tell("older", "unloading")
    assert (node.granted("d"), node.asked_to_unload()) == (False, set())
    node.tell("older", "resting")
    assert node.granted("d")


def test_the_order_of_use_is_that_of_now_and_not_of_when_it_was_said() -> None:
    node = Node(20, 3)
    node.idle("first", 10)
    node.now += 30
    node.idle("second", 20)
    node.tell("c", "waiting")
    assert node.asked_to_unload() == {"first"}


def test_as_many_go_as_are_needed_and_no_more() -> None:
    node = Node(30, 4)
    for number, model in enumerate("abc"):
        node.idle(model, 10 + number)
    node.tell("large", "waiting", need=20)
    assert node.asked_to_unload() == {"b", "c"}


def test_none_goes_when_all_that_are_idle_would_not_be_enough() -> None:
    node = Node(30, 4)
    node.idle("a")
    node.tell("b", "loaded", busy=1)
    node.tell("c", "loaded", on_demand=False)
    node.tell("large", "waiting", need=20)
    assert node.asked_to_unload() == set()
    assert node.ledger.reply(node.holders["large"]) == NOTHING
    node.idle("b", 5)
    assert node.asked_to_unload() == {"a", "b"}


@pytest.mark.parametrize("more", [{"busy": 1}, {"on_demand": False}, {"idle_seconds": IDLE_SECONDS / 2}])
def test_a_model_stays_that_is_busy_or_always_there_or_was_just_used(more: dict[str, Any]) -> None:
    node = Node(10, 2)
    node.tell("a", "loaded", **more)
    node.tell("b", "waiting")
    assert node.asked_to_unload() == set()
    assert not node.granted("b")


def test_a_model_that_was_just_used_may_go_once_it_has_been_idle() -> None:
    node = Node(10, 2)
    node.idle("a", 0.0)
    node.tell("b", "waiting")
    node.now += IDLE_SECONDS
    assert node.asked_to_unload() == {"a"}


def test_who_asked_first_is_served_first() -> None:
    node = Node(10, 3)
    node.tell("first", "waiting")
    node.tell("second", "waiting")
    assert not node.granted("second")
    assert node.granted("first")
    node.tell("first", "loaded")
    node.tell("first", "resting")
    assert node.granted("second")


def test_a_place_is_kept_while_one_asks_again_and_lost_by_giving_up() -> None:
    node = Node(10, 3)
    node.tell("always", "loaded", busy=1)
    node.tell("first", "waiting")
    node.tell("second", "waiting")
    node.tell("first", "waiting")
    node.tell("always", "resting")
    assert not node.granted("second")
    node.tell("first", "resting")
    node.tell("first", "waiting")
    assert not node.granted("first")
    assert node.granted("second")


def test_one_that_cannot_be_served_yet_does_not_hold_up_one_that_can() -> None:
    node = Node(20, 3)
    node.tell("busy", "loaded", busy=1)
    node.tell("large", "waiting", need=20)
    node.tell("small", "waiting")
    assert node.granted("small")


def test_a_model_that_can_never_fit_is_refused_with_both_numbers() -> None:
    node = Node(int(3e9), 2)
    node.tell("stays", "loaded", int(2e9), on_demand=False)
    node.tell("large", "waiting", int(1.5e9))
    refused = node.ledger.reply(node.holders["large"]).refused
    assert refused is not None
    limit, kept = 3e9 + 2 * PROCESS_BYTES, 2e9 + 2 * PROCESS_BYTES
    for number in (1.5e9, limit, kept):
        assert f"{number / 1e9:.2f} GB" in refused


def test_processes_take_room_too() -> None:
    node = Node(20, 1)
    node.tell("a", "waiting", need=20)
    node.tell("b", "resting")
    refused = node.ledger.reply(node.holders["a"]).refused
    assert refused is not None and "'a'" in refused


def test_the_room_of_one_that_has_died_is_free() -> None:
    node = Node(10, 2)
    dead = node.tell("a", "loaded", busy=1)
    node.tell("b", "waiting")
    assert not node.granted("b")
    node.ledger.forget([dead])
    assert node.granted("b")


def test_a_ledger_that_begins_anew_knows_all_once_every_replica_has_spoken() -> None:
    node = Node(20, 3)
    node.idle("a", 9)
    node.tell("b", "loaded", busy=1)
    again = Node(20, 3)
    again.idle("a", 9)
    again.tell("b", "loaded", busy=1)
    for one in (node, again):
        one.tell("c", "waiting")
    assert node.asked_to_unload() == again.asked_to_unload() == {"a"}


def test_a_change_of_state_or_from_busy_to_idle_is_told_from_a_mere_repetition() -> None:
    ledger, holder = Ledger(100), Holder(1, 0.0)
    said: list[tuple[State, int]] = [("loaded", busy) for busy in (0, 0, 2, 1, 0)]
    changes = [ledger.take(holder, Report("a", state, 1, busy=busy)) for state, busy in [*said, ("resting", 0)]]
    assert changes == [True, False, True, False, True, True]


STEPS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["want", "use", "leave", "die"]), st.integers(0, 5)),
    max_size=60,
)


@given(STEPS)
def test_models_never_hold_more_than_there_is(steps: list[tuple[str, str, int]]) -> None:
    node = Node(25, 4)
    need = {"a": 10, "b": 12, "c": 20, "d": 1}
    states: dict[str, State] = dict.fromkeys(need, "resting")
    busy = dict.fromkeys(need, 0)
    for model, size in need.items():
        node.tell(model, "resting", size)
    for model, what, seconds in steps:
        node.now += seconds
        if what == "want" and states[model] == "resting":
            states[model] = "waiting"
        elif what == "use" and states[model] == "loaded":
            busy[model] = 1 - busy[model]
        elif what == "leave" and states[model] == "waiting":
            states[model] = "resting"
        elif what == "die":
            node.ledger.forget([node.holders.pop(model)])
            states[model], busy[model] = "resting", 0
            node.tell(model, "resting", need[model])
        for name, size in need.items():
            reply = node.ledger.reply(node.tell(name, states[name], size, busy=busy[name]))
            if reply.granted:
                assert states[name] == "waiting"
                states[name] = "loaded"
            elif reply.unload:
                assert states[name] == "loaded" and not busy[name]
                states[name] = "resting"
            node.tell(name, states[name], size, busy=busy[name])
            assert sum(need[one] for one, state in states.items() if state == "loaded") <= 25
