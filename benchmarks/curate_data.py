"""Conversations with planted duplicates and personal data, the same for the same number, with the truth beside them.

What a row is, is told by its number, so that any of them can be made again without the others. Of twenty rows
seventeen are original; five of these share a long template and differ in the rest, which a low threshold takes for
duplicates; one row repeats an earlier original exactly, but for case and spaces; two are near duplicates of one, or,
one time in three, changed so much that they are none.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Literal

import orjson
from stdnum import luhn
from stdnum.iso7064 import mod_97_10

Kind = Literal["original", "template", "exact", "near", "distant"]

#: Shares of words that are changed: near duplicates still have a Jaccard index of three-word shingles above 0.7.
NEAR_EDITS = (0.01, 0.03, 0.05)
DISTANT_EDITS = (0.12, 0.25)
_CYCLE, _ORIGINALS, _TEMPLATES, _EXACT = 20, 17, 12, 17
_SEED = 20_261_125
_SENTENCES, _TEMPLATE_COUNT = 40_000, 40
_FILE_ROWS = 50_000
_SYLLABLES = tuple(
    f"{first}{second}" for first in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t") for second in "aeiou"
)


@dataclass(frozen=True, slots=True)
class Planted:
    """A row, and what is known of it.

    Attributes:
        number: its place among the rows.
        of: the number of the row that it repeats; its own where it repeats none.
        edits: the share of its words that differ from that row's.
        personal: what must not be left, each with its kind.
        ordinary: what must be left.
    """

    number: int
    kind: Kind
    of: int
    edits: float
    question: str
    answer: str
    personal: tuple[tuple[str, str], ...]
    ordinary: tuple[str, ...]

    def line(self) -> bytes:
        """The row as a line of JSONL."""
        messages = [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]
        row = {"id": f"r{self.number}", "source": "openai", "messages": messages, "provenance": {}}
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


class Planter:
    """Makes rows by their numbers."""

    def __init__(self) -> None:
        chance = random.Random(_SEED)  # noqa: S311
        words = ["".join(chance.choices(_SYLLABLES, k=chance.randint(1, 4))) for _ in range(8000)]
        # A few words are much of every text.
        weights = list(accumulate(1 / (rank + 5) for rank in range(len(words))))
        self._words = words
        self._sentences = [
            " ".join(chance.choices(words, cum_weights=weights, k=chance.randint(7, 16))).capitalize() + "."
            for _ in range(_SENTENCES)
        ]
        self._templates = [" ".join(chance.sample(self._sentences, 14)) for _ in range(_TEMPLATE_COUNT)]

    def rows(self, start: int, end: int) -> Iterator[Planted]:
        """The rows of a range of numbers."""
        return map(self.row, range(start, end))

    def row(self, number: int) -> Planted:
        """The row of a number."""
        place = number % _CYCLE
        chance = random.Random(_SEED + number)  # noqa: S311
        if place < _ORIGINALS or number < _CYCLE:
            return self._original(number, "template" if _TEMPLATES <= place < _ORIGINALS else "original", chance)
        of = chance.randrange(number)
        of -= max(of % _CYCLE - _ORIGINALS + 1, 0)
        source = self.row(of)
        if place == _EXACT:
            question = source.question.upper() if chance.random() < 0.3 else source.question.replace(" ", "  ", 2)
            return Planted(number, "exact", of, 0.0, question, source.answer, source.personal, source.ordinary)
        kind: Kind = "distant" if chance.random() < 1 / 3 else "near"
        edits = chance.choice(NEAR_EDITS if kind == "near" else DISTANT_EDITS)
        question, answer = (self._edited(text, edits, chance) for text in (source.question, source.answer))
        return Planted(number, kind, of, edits, question, answer, (), ())

    def _original(self, number: int, kind: Kind, chance: random.Random) -> Planted:
        sentences = chance.choices(self._sentences, k=chance.randint(7, 18))
        personal: tuple[tuple[str, str], ...] = ()
        ordinary: tuple[str, ...] = ()
        if chance.random() < 0.2:
            sentence, personal = _personal(chance, self._words)
            sentences.append(sentence)
        if chance.random() < 0.2:
            sentence, ordinary = _ordinary(chance)
            sentences.append(sentence)
        cut = 2 if kind == "original" else 3
        question = " ".join(sentences[:cut])
        if kind == "template":
            question = f"{chance.choice(self._templates)} {question}"
        return Planted(number, kind, number, 0.0, question, " ".join(sentences[cut:]), personal, ordinary)

    def _edited(self, text: str, share: float, chance: random.Random) -> str:
        """The text with a share of its words replaced, left out, or doubled; at least one is."""
        words = text.split(" ")
        for place in chance.sample(range(len(words)), max(1, round(share * len(words)))):
            words[place] = (chance.choice(self._words), "", f"{words[place]} {words[place]}")[chance.randrange(3)]
        return " ".join(words)


def _personal(chance: random.Random, words: list[str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A sentence with something personal, and what that is."""
    kind = chance.choice(("email", "phone", "card", "iban", "national_id", "ip", "secret"))
    digits = "".join(chance.choices("0123456789", k=24))
    if kind == "email":
        value = f"{chance.choice(words)}.{chance.choice(words)}{digits[:2]}@{chance.choice(words)}.example.com"
        return f"You can reach me under {value} all day.", ((kind, value),)
    if kind == "phone":
        french = f"+33 6 12 {digits[:2]} {digits[2:4]} {digits[4:6]}"
        value = chance.choice((f"+49 30 9{digits[:5]}", f"(415) 555-{digits[:4]}", french))
        return f"Please call me at {value} tomorrow.", ((kind, value),)
    if kind == "card":
        base = "4539" + digits[:11]
        number = base + luhn.calc_check_digit(base)
        value = number if digits[0] < "5" else " ".join(number[place : place + 4] for place in range(0, 16, 4))
        return f"I paid with {value} last week.", ((kind, value),)
    if kind == "iban":
        value = f"DE{mod_97_10.calc_check_digits(digits[:18] + 'DE')}{digits[:18]}"
        return f"Send it to {value}, thanks.", ((kind, value),)
    if kind == "national_id":
        value = f"{chance.randint(100, 665)}-{chance.randint(10, 99)}-{chance.randint(1000, 9999)}"
        return f"My SSN is {value} by the way.", ((kind, value),)
    if kind == "ip":
        value = f"{chance.randint(80, 95)}.{chance.randint(0, 255)}.{chance.randint(0, 255)}.{chance.randint(1, 254)}"
        return f"The request came from {value} at night.", ((kind, value),)
    value = f"sk-proj-{''.join(chance.choices('abcdefghijkmnpqrstuvwxyzABCDEFGH', k=30))}{digits[:6]}aB"
    return f"The key {value} does not work.", ((kind, value),)


def _ordinary(chance: random.Random) -> tuple[str, tuple[str, ...]]:
    """A sentence with what looks personal and is not, and what that is."""
    kind = chance.randrange(7)
    number = chance.randrange(10**10)
    day = f"20{chance.randint(10, 29)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
    if kind == 0:
        value = f"{number:010}"
        return f"The order {value} was shipped.", (value,)
    if kind == 1:
        return f"It happened on {day} 12:30:45 again.", (day,)
    if kind == 2:
        value = f"v{number % 20}.{number % 31}.{number % 17}.{number % 13}"
        return f"We run version {value} of it.", (value,)
    if kind == 3:
        value = str(uuid.UUID(int=chance.getrandbits(128)))
        return f"The request id was {value} then.", (value,)
    if kind == 4:
        value = f"192.168.{number % 256}.{number % 251}"
        return f"My router is {value} at home.", (value,)
    if kind == 5:
        value = f"{chance.getrandbits(160):040x}"
        return f"Commit {value} broke it.", (value,)
    value = f"{number:,}.{number % 97:02}"
    return f"The total is {value} this year.", (value,)


def write(folder: Path, rows: int) -> list[Path]:
    """Write the first ``rows`` rows as files of rows; gives the files, which are the same on every machine."""
    tasks = [
        (folder / f"{start:09}.jsonl", start, min(start + _FILE_ROWS, rows)) for start in range(0, rows, _FILE_ROWS)
    ]
    with ProcessPoolExecutor() as processes:
        return list(processes.map(_write, tasks))


def _write(task: tuple[Path, int, int]) -> Path:
    path, start, end = task
    with path.open("wb", buffering=1 << 20) as file:
        file.writelines(planted.line() for planted in _planter().rows(start, end))
    return path


@cache
def _planter() -> Planter:
    return Planter()
