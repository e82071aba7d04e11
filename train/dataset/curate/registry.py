"""Every step by its name."""

from __future__ import annotations

from train.dataset.curate.base import Step
from train.dataset.curate.duplicates import Duplicates, Leakage
from train.dataset.curate.selection import Cap, Mix, Sample
from train.dataset.curate.steps.branch import Branch
from train.dataset.curate.steps.echo import Echo
from train.dataset.curate.steps.encoding import Encoding
from train.dataset.curate.steps.fences import Fences
from train.dataset.curate.steps.language import Language
from train.dataset.curate.steps.length import Length
from train.dataset.curate.steps.personal import Personal
from train.dataset.curate.steps.phrases import Apologies, Boilerplate, Refusals, Toxicity
from train.dataset.curate.steps.repetition import Repetition
from train.dataset.curate.steps.truncation import Truncation

_KINDS: tuple[type[Step], ...] = (
    Branch,
    Encoding,
    Language,
    Length,
    Echo,
    Fences,
    Truncation,
    Repetition,
    Refusals,
    Apologies,
    Boilerplate,
    Toxicity,
    Personal,
    Duplicates,
    Leakage,
    Sample,
    Mix,
    Cap,
)

#: In the order in which they are best done.
STEPS: dict[str, type[Step]] = {kind.model_fields["step"].default: kind for kind in _KINDS}
