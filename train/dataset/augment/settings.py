"""How rows are augmented."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from serve.settings.base import Settings
from train.dataset.formats.split import SplitSettings

Kind = Literal["paraphrase", "translation"]


class AugmentSettings(Settings):
    """What is made, and how it is checked.

    Attributes:
        kind: ``paraphrase`` puts what users ask into other words; ``translation`` puts what users and assistants say
            into other languages.
        languages: of translations: by code (ISO 639), the name that the model is told.
        copies: of paraphrases: how many of each row.
        temperature: of the model; at 0 all copies are the same.
        max_tokens: of an answer of the model.
        shortest, longest: length of what the model wrote over that of what it was given, in characters.
        budget_tokens: no further row is begun when so many tokens were used; none for no limit.
        budget_rows: no more than so many rows are made.
        split: only what is trained on is augmented: of rows that are not split yet, those that these settings put
            there. They must be those with which the rows will be split.
    """

    kind: Kind
    languages: dict[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], Annotated[str, Field(min_length=1)]] = {}
    copies: Annotated[int, Field(ge=1, le=20)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    shortest: Annotated[float, Field(gt=0, lt=1)] = 0.3
    longest: Annotated[float, Field(gt=1)] = 3.0
    budget_tokens: Annotated[int, Field(ge=1)] | None = None
    budget_rows: Annotated[int, Field(ge=1)] | None = None
    split: SplitSettings = Field(default_factory=SplitSettings)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> AugmentSettings:
        if (self.kind == "translation") != bool(self.languages):
            raise ValueError("languages are named for translations, and only for them")
        if self.kind == "translation" and self.copies > 1:
            raise ValueError("copies are of paraphrases")
        return self
