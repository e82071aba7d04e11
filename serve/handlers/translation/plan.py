"""What holds for every piece of one request."""

from __future__ import annotations

from dataclasses import dataclass

from serve.handlers.translation.checks import Terms
from serve.handlers.translation.languages import Language
from serve.handlers.translation.masks import Masked
from serve.handlers.translation.memory import Memory
from serve.handlers.translation.prompts import Task
from serve.handlers.translation.window import Window
from serve.settings.translation import Family, TranslationUserConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """How the texts of one request are translated.

    Attributes:
        model: who translates: an id, ``id:adapter`` or ``auto``.
        window: what its context holds.
        strict: whether a piece that the model cannot be asked for fails the request.
    """

    target: Language
    model: str
    family: Family
    window: Window
    terms: Terms
    memory: Memory
    domains: str | None
    strict: bool
    behaviour: TranslationUserConfig

    def task(self, whole: Masked, source: Language, before: str = "", after: str = "") -> Task:
        """What a model is told and asked for one piece, but for examples. Goes through all terms: for a thread."""
        return Task(
            text=whole.text,
            source=source,
            target=self.target,
            marks=tuple(whole.marks),
            before=before,
            after=after,
            terms=tuple(self.terms.within(whole.text)),
            domains=self.domains,
        )
