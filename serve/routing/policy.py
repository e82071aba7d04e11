"""The policy: the first rule that holds names the models to try; the first of them that can answer is taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from serve.errors import InvalidRequest, Unavailable
from serve.routing.features import Features
from serve.settings.gateway import Condition, RoutingSettings


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that could be chosen, and what it can do."""

    id: str
    tools: bool
    structured_output: bool
    vision: bool
    context: int | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The model chosen, and why, for the header ``x-groupqwen-route``."""

    model: str
    reason: str


#: A token is rarely shorter than this many characters of text on average; used to pass over models whose context
#: a prompt cannot fit, with room to err on the side of trying.
CHARS_PER_TOKEN = 6


class Policy:
    """Decides by the rules of one ``RoutingSettings``; patterns are compiled once.

    Attributes:
        wakes: whether a model that is not in memory is a candidate like any other.
    """

    def __init__(self, settings: RoutingSettings) -> None:
        self._settings = settings
        self.wakes = settings.wake
        self._patterns = {
            rule.name: re.compile(rule.when.pattern, re.IGNORECASE)
            for rule in settings.rules
            if rule.when.pattern is not None
        }

    def decide(self, features: Features, candidates: Sequence[Candidate]) -> Decision:
        """Choose one of ``candidates``, which are the models that can answer.

        Raises:
            Unavailable: there are none.
            InvalidRequest: none of them can do what the request asks.
        """
        able = {one.id: one for one in candidates if _can(one, features)}
        for rule in self._settings.rules:
            if self._holds(rule.name, rule.when, features):
                for model in rule.models:
                    if model in able:
                        return Decision(model, f"rule={rule.name}")
        for model in self._settings.default:
            if model in able:
                return Decision(model, "default")
        for model in sorted(able):
            return Decision(model, "any")
        if not candidates:
            raise Unavailable("No model of the group is ready.", retry_after=2.0)
        raise InvalidRequest(
            "No model of the group that is ready can do what this request asks (tools, structured output, pictures,"
            " or a text of this length).",
            param="model",
            code="no_capable_model",
        )

    def _holds(self, name: str, when: Condition, features: Features) -> bool:
        pattern = self._patterns.get(name)
        return (
            (when.code is None or when.code == features.code)
            and (when.tools is None or when.tools == features.tools)
            and (when.structured_output is None or when.structured_output == features.structured_output)
            and (when.min_prompt_chars is None or features.prompt_chars >= when.min_prompt_chars)
            and (when.min_messages is None or features.messages >= when.min_messages)
            and (pattern is None or pattern.search(features.last_user_text) is not None)
        )


def _can(one: Candidate, features: Features) -> bool:
    return (
        (one.tools or not features.tools)
        and (one.structured_output or not features.structured_output)
        and (one.vision or not features.vision)
        and (one.context is None or features.prompt_chars <= one.context * CHARS_PER_TOKEN)
    )
