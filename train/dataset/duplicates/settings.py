"""What counts as a duplicate, and which of several is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serve.settings.base import Settings


class DuplicateSettings(Settings):
    """How duplicates are found.

    Attributes:
        exact: whether rows of the same content, but for case, spaces and forms of letters, are duplicates.
        near: whether rows of similar content are.
        threshold: the least similarity of near duplicates: the Jaccard index of their sets of shingles.
        shingle: how many units a shingle has.
        unit: ``word`` (where Chinese, Japanese and Thai characters are words of their own) or ``character``.
        permutations: length of the MinHash sketches; more are more exact, and cost time and disk.
        keep: which one of several is kept: ``longest``, ``newest`` (by when it changed last), or ``best`` (by
            feedback, then the longest). The first of the input where that leaves several.
        seed: of the sketches.
    """

    exact: bool = True
    near: bool = True
    threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.7
    shingle: Annotated[int, Field(ge=1, le=32)] = 3
    unit: Literal["word", "character"] = "word"
    permutations: Annotated[int, Field(ge=32, le=512, multiple_of=16)] = 128
    keep: Literal["longest", "newest", "best"] = "best"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class LeakSettings(DuplicateSettings):
    """How rows are found that an evaluation set has, too.

    Attributes:
        contained: the least share of one evaluation message's n-grams that makes a row a leak; 0 looks for none.
        ngram: how many words an n-gram has; messages with fewer words are not looked for.
    """

    contained: Annotated[float, Field(ge=0, le=1)] = 0.8
    ngram: Annotated[int, Field(ge=4, le=64)] = 13
