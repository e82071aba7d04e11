"""What can go wrong between a model's sources and this node's disk."""

from __future__ import annotations

from collections.abc import Sequence


class ModelSourceError(Exception):
    """A model's weights cannot be had, kept, checked or removed; the message is one line that names the model."""


def no_source(model_id: str, what: str, failures: Sequence[tuple[str, str]]) -> ModelSourceError:
    """The error for a model of which no source gave the file or folder (``what``); ``failures`` are pairs of source
    and reason."""
    tried = "; ".join(f"{source}: {reason}" for source, reason in failures)
    return ModelSourceError(f"{model_id}: no source gave the {what} ({tried})")


class SourceFailed(Exception):
    """One source did not give what is wanted; the message is the reason, one line with no secret in it."""


class Interrupted(SourceFailed):
    """A source failed in a way that may pass: trying it again makes sense.

    Attributes:
        wait: seconds after which the source wants to be asked again; none when it did not say.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class WrongContent(SourceFailed):
    """What a source gave is not the file that the settings describe."""
