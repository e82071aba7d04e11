"""Which model answers a request for ``auto``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serve.errors import InvalidRequest, Unavailable
from serve.routing.features import Features
from serve.routing.policy import CHARS_PER_TOKEN, Candidate, Decision, Policy
from serve.settings.gateway import RoutingSettings

PLAIN = Features(
    last_user_text="Hello there",
    prompt_chars=11,
    messages=1,
    code=False,
    tools=False,
    structured_output=False,
    vision=False,
)
QUICK = Candidate("quick", tools=False, structured_output=False, vision=False, context=100)
STRONG = Candidate("strong", tools=True, structured_output=True, vision=False, context=1000)
SEEING = Candidate("seeing", tools=False, structured_output=False, vision=True, context=None)
ALL = [STRONG, QUICK, SEEING]


def policy(*rules: dict[str, Any], default: tuple[str, ...] = ("quick", "strong")) -> Policy:
    """A policy of these rules."""
    named = [{"name": f"rule{number}", **rule} for number, rule in enumerate(rules)]
    return Policy(RoutingSettings.model_validate({"rules": named, "default": list(default)}))


def test_without_a_rule_that_holds_the_default_models_are_taken_in_order() -> None:
    assert policy().decide(PLAIN, ALL) == Decision("quick", "default")
    assert policy().decide(PLAIN, [STRONG]) == Decision("strong", "default")


def test_the_first_rule_that_holds_decides_and_is_the_reason() -> None:
    decide = policy({"when": {"code": True}, "models": ["seeing"]}, {"when": {}, "models": ["strong"]}).decide
    assert decide(PLAIN, ALL) == Decision("strong", "rule=rule1")
    assert decide(replace(PLAIN, code=True), ALL) == Decision("seeing", "rule=rule0")


def test_a_rule_whose_models_are_away_gives_way_to_the_next() -> None:
    decide = policy({"when": {}, "models": ["gone", "strong"]}, {"when": {}, "models": ["quick"]}).decide
    assert decide(PLAIN, ALL).model == "strong"
    assert decide(PLAIN, [QUICK]) == Decision("quick", "rule=rule1")


def test_a_model_that_no_rule_and_no_default_names_is_better_than_none() -> None:
    assert policy(default=()).decide(PLAIN, [SEEING, QUICK]) == Decision("quick", "any")


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        ({"code": True}, {"code": True}, {"code": False}),
        ({"code": False}, {"code": False}, {"code": True}),
        ({"tools": True}, {"tools": True}, {"tools": False}),
        ({"structured_output": True}, {"structured_output": True}, {"structured_output": False}),
        ({"min_prompt_chars": 20}, {"prompt_chars": 20}, {"prompt_chars": 19}),
        ({"min_messages": 3}, {"messages": 3}, {"messages": 2}),
        ({"pattern": "^TRANS"}, {"last_user_text": "translate this"}, {"last_user_text": "do not translate"}),
        ({"code": True, "min_messages": 2}, {"code": True, "messages": 2}, {"code": True, "messages": 1}),
    ],
)
def test_a_condition_holds_when_every_field_of_it_does(
    when: dict[str, Any], yes: dict[str, Any], no: dict[str, Any]
) -> None:
    decide = policy({"when": when, "models": ["strong"]}).decide
    assert decide(replace(PLAIN, **yes), [STRONG]).reason == "rule=rule0"
    assert decide(replace(PLAIN, **no), [STRONG]).reason == "default"


@pytest.mark.parametrize(
    ("changes", "able"),
    [
        ({"tools": True}, "strong"),
        ({"structured_output": True}, "strong"),
        ({"vision": True}, "seeing"),
        ({"prompt_chars": 100 * CHARS_PER_TOKEN + 1}, "strong"),
        ({"prompt_chars": 1000 * CHARS_PER_TOKEN + 1}, "seeing"),
    ],
)
def test_a_model_that_cannot_take_the_request_is_passed_over(changes: dict[str, Any], able: str) -> None:
    assert policy().decide(replace(PLAIN, **changes), ALL).model == able


def test_a_prompt_that_may_just_fit_is_tried() -> None:
    assert policy().decide(replace(PLAIN, prompt_chars=100 * CHARS_PER_TOKEN), ALL).model == "quick"


@pytest.mark.parametrize("features", [PLAIN, replace(PLAIN, tools=True)])
def test_a_request_is_told_to_try_again_while_no_model_is_ready(features: Features) -> None:
    with pytest.raises(Unavailable) as raised:
        policy().decide(features, [])
    assert raised.value.retry_after


def test_a_request_that_no_model_can_take_is_told_so_and_not_to_try_again() -> None:
    with pytest.raises(InvalidRequest) as raised:
        policy().decide(replace(PLAIN, vision=True), [QUICK])
    assert raised.value.code == "no_capable_model" and raised.value.retry_after is None
