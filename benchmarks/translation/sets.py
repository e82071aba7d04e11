"""The sets that translations are measured on."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sentence:
    """An English sentence and its translation into one language."""

    number: int
    text: str
    target: str
    reference: str
    format: str = "text"


@dataclass(frozen=True)
class Case:
    """A text whose form must be kept.

    Attributes:
        kept: what has to be in its translation as often as in the text.
    """

    text: str
    target: str
    format: str
    kept: tuple[str, ...]

    def lost(self, translated: str) -> list[str]:
        """What of ``kept`` a translation has not as often as the text."""
        return [one for one in self.kept if translated.count(one) != self.text.count(one)]

    def intact(self, translated: str) -> bool:
        """Whether everything is kept, and the space around the text and the number of its lines."""
        mine, its = (text[: len(text) - len(text.lstrip())] for text in (self.text, translated))
        tail, tails = (text[len(text.rstrip()) :] for text in (self.text, translated))
        same = (mine, tail, self.text.count("\n")) == (its, tails, translated.count("\n"))
        return same and not self.lost(translated)


@cache
def sentences() -> list[Sentence]:
    """Every sentence in every language."""
    text = (_HERE / "sentences.tsv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    targets = [code for code in rows[0] if code != "en"]
    return [Sentence(n, row["en"], code, row[code]) for code in targets for n, row in enumerate(rows)]


@cache
def cases() -> list[Case]:
    """Every format case."""
    lines = (_HERE / "formats.jsonl").read_text(encoding="utf-8").splitlines()
    found = map(orjson.loads, lines)
    return [Case(one["text"], one["target"], one["format"], tuple(one["kept"])) for one in found]
