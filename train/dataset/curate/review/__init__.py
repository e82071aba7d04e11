"""Review by a person: what is decided, and the session in which it is; the terminal is one way to ask."""

from train.dataset.curate.review.decisions import Decision, Decisions, Verdict
from train.dataset.curate.review.session import Review

__all__ = ["Decision", "Decisions", "Review", "Verdict"]
