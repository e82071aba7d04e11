"""Why a row cannot be learned from by a model."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """What is wrong with it, for counting."""

    TEMPLATE_REFUSED = "template_refused"
    """The model's template does not take these messages."""
    ANSWER_LOST = "answer_lost"
    """The template leaves out what an answer says or which tools it calls."""
    ARGUMENTS = "arguments"
    """The arguments of a call are no JSON object."""
    CONTROL_TOKENS = "control_tokens"
    """Something said has the model's own marks in it, and would make turns that nobody took."""
    TOO_LONG = "too_long"
    """Not even its first answer fits."""
    NOTHING_LEARNED = "nothing_learned"
    """No answer in it is learned from: all are of weight 0, or nobody asked."""
    NO_PAIR = "no_pair"
    """For pairs: it has no second answer, or one of the two is not a single message."""
    HELD_OUT = "held_out"
    """A model wrote it, out of a row that is kept apart to judge by."""


class Unfit(Exception):
    """A row that cannot be used, with the reason; says nothing of its content."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
