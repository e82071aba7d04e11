"""Promotions are earned, recorded, and undone; what stands is one line of one file."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serve.adapters.errors import AdapterMissing, BadManifest, BadName, NotEarned
from serve.adapters.files import PROMOTIONS, version_in
from serve.adapters.manifest import Base
from serve.adapters.promotions import Pin, Probation, Promotions, Rules, Standing
from serve.adapters.registry import Registry
from tests.peft import save, tensors

PASSED = {"gate": {"passed": True}}


class Published:
    """A registry with promotions in which a test publishes small adapters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.registry = Registry(folder / "registry")
        self.promotions = Promotions(self.registry)

    def publish(self, name: str, seed: int = 0, evaluation: Mapping[str, Any] = PASSED) -> Pin:
        weights = tensors({"model.layers.0.self_attn.q_proj": (8, 8)}, seed=seed)
        source = save(self._folder / f"source-{seed}", weights)
        report = {"version": version_in(source), **evaluation}
        manifest = self.registry.publish(Base(model="m"), name, source, evaluation=report)
        return Pin(name=name, version=manifest.version)

    def standing(self) -> Standing:
        return self.promotions.standing("m")


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path)


def test_a_model_without_promotions_answers_itself(published: Published) -> None:
    assert published.promotions.history("m") == []
    assert published.standing() == Standing()


def test_a_canary_that_passed_the_gate_is_promoted_and_both_are_recorded(published: Published) -> None:
    pin = published.publish("a")
    published.promotions.canary("m", "a", 0.2, by="loop", rules=Rules(min_ratings=3))
    canary = published.standing().canary
    assert canary is not None and canary.weight == 0.2
    assert published.standing().rules.min_ratings == 3
    published.promotions.promote("m", "a", by="operator")
    assert published.standing().default == pin and published.standing().canary is None
    assert published.standing().rules.min_ratings == 3
    history = published.promotions.history("m")
    assert [(one.number, one.action, one.by) for one in history] == [
        (1, "canary", "loop"),
        (2, "promote", "operator"),
    ]


@pytest.mark.parametrize(
    ("evaluation", "why"),
    [
        ({}, "has not been evaluated"),
        ({"gate": {"passed": False}}, "did not pass the gate"),
        ({**PASSED, "version": "0" * 16}, "is not of what is published now"),
        ({**PASSED, "version": None}, "is not of what is published now"),
    ],
)
def test_what_did_not_pass_the_gate_needs_a_reason(
    published: Published, evaluation: dict[str, Any], why: str
) -> None:
    published.publish("a", evaluation=evaluation)
    with pytest.raises(NotEarned, match=why):
        published.promotions.promote("m", "a", by="operator")
    with pytest.raises(NotEarned, match=why):
        published.promotions.canary("m", "a", 0.5, by="operator")
    assert published.promotions.history("m") == []
    made = published.promotions.promote("m", "a", by="operator", reason="tried by hand")
    assert made.reason == "tried by hand" and published.standing().default == made.adapter


def test_a_rollback_goes_back_to_the_default_before_and_then_to_the_model(published: Published) -> None:
    first, second = published.publish("a", 1), published.publish("b", 2)
    for name in ("a", "b"):
        published.promotions.promote("m", name, by="operator")
    assert published.standing().default == second
    published.promotions.roll_back("m", by="feedback", reason="disliked")
    assert (published.standing().default, published.standing().refused) == (first, [second])
    published.promotions.roll_back("m", by="operator", reason="no")
    assert published.standing().default is None and published.standing().refused == [second, first]
    assert published.promotions.roll_back("m", by="operator", reason="nothing is left") is None
    assert [one.action for one in published.promotions.history("m")] == ["promote", "promote", "rollback", "rollback"]


def test_a_canary_is_rolled_back_before_the_default(published: Published) -> None:
    first, second = published.publish("a", 1), published.publish("b", 2)
    published.promotions.promote("m", "a", by="operator")
    published.promotions.canary("m", "b", 0.1, by="loop")
    published.promotions.roll_back("m", by="errors", reason="fails")
    assert published.standing().default == first and published.standing().canary is None
    assert published.standing().refused == [second]


def test_what_was_rolled_back_comes_again_only_with_a_reason_or_as_a_new_content(published: Published) -> None:
    published.publish("a", 1)
    published.promotions.canary("m", "a", 0.1, by="loop")
    published.promotions.roll_back("m", by="errors", reason="fails")
    with pytest.raises(NotEarned, match="was rolled back"):
        published.promotions.canary("m", "a", 0.1, by="loop")
    published.publish("a", 2)
    published.promotions.canary("m", "a", 0.1, by="loop")
    assert published.standing().canary is not None


def test_many_who_roll_back_at_once_do_it_once(published: Published) -> None:
    pin = published.publish("a")
    published.promotions.canary("m", "a", 0.1, by="loop")

    def roll_back(number: int) -> bool:
        return published.promotions.roll_back("m", pin, by="errors", reason=f"replica {number}") is not None

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(roll_back, range(8))) == 1
    assert len(published.promotions.history("m")) == 2


def test_a_canary_graduates_once_and_only_as_it_is(published: Published) -> None:
    pin = published.publish("a")
    canary = published.promotions.canary("m", "a", 0.1, by="loop", probation=Probation(hours=1))
    other = canary.model_copy(update={"adapter": Pin(name="a", version="0" * 16)})
    assert published.promotions.graduate("m", other, reason="fine") is None
    made = published.promotions.graduate("m", canary, reason="fine")
    assert made is not None and (made.action, made.by, made.reason) == ("promote", "gate", "fine")
    assert (published.standing().default, published.standing().canary) == (pin, None)
    assert published.promotions.graduate("m", canary, reason="fine") is None
    assert len(published.promotions.history("m")) == 2


def test_no_canary_graduates_that_the_gate_did_not_pass_or_that_was_rolled_back(published: Published) -> None:
    published.publish("a", evaluation={"gate": {"passed": False}})
    by_hand = published.promotions.canary("m", "a", 0.1, by="operator", reason="by hand", probation=Probation())
    assert published.promotions.graduate("m", by_hand, reason="fine") is None
    pin = published.publish("a")
    canary = published.promotions.canary("m", "a", 0.1, by="loop", probation=Probation())
    published.promotions.roll_back("m", pin, by="errors", reason="fails")
    assert published.promotions.graduate("m", canary, reason="fine") is None
    assert published.standing().default is None


def test_a_record_from_before_there_was_probation_is_read(published: Published) -> None:
    published.publish("a")
    published.promotions.canary("m", "a", 0.1, by="loop")
    path = published.registry.root / "m" / PROMOTIONS
    line = path.read_text(encoding="utf-8")
    assert '"probation":null' in line
    path.write_text(line.replace(',"probation":null', ""), encoding="utf-8")
    assert published.standing().canary is not None


def test_what_is_not_published_cannot_be_promoted(published: Published) -> None:
    with pytest.raises(AdapterMissing):
        published.promotions.promote("m", "a", by="operator")
    with pytest.raises(BadName):
        published.promotions.standing("../m")


def test_a_broken_record_is_said_and_not_overwritten(published: Published) -> None:
    published.publish("a")
    path = published.registry.root / "m" / PROMOTIONS
    path.write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(BadManifest, match="no record of promotions"):
        published.promotions.standing("m")
    with pytest.raises(BadManifest, match="no record of promotions"):
        published.promotions.promote("m", "a", by="operator")
    assert path.read_text(encoding="utf-8") == "nonsense\n"


def test_no_adapter_can_be_called_as_the_model_itself_is(published: Published) -> None:
    with pytest.raises(BadName, match="not 'base'"):
        published.publish("base")
