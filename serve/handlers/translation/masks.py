"""What is kept goes to the model as numbered marks, and comes back in its place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from serve.handlers.translation.inline import Piece, Syntax, pieces, says_something, written

#: A mark as it is written here.
MARK = re.compile(r"\{(\d{1,6})\}")
#: As models write it, which now and then put space into it.
_LOOSE_MARK = re.compile(r"\{\s*(\d{1,6})\s*\}")


@dataclass(frozen=True, slots=True)
class Masked:
    """A text with marks in it.

    Attributes:
        before, after: what is kept at its ends; no model needs to see it.
        text: what a model is asked to translate.
        held: what each mark stands for, by its number.
        syntax: how translated text is written between them.
    """

    before: str
    text: str
    after: str
    held: tuple[str, ...]
    syntax: Syntax

    @property
    def marks(self) -> list[str]:
        """The marks, as they stand in ``text``."""
        return [mark(number) for number in range(len(self.held))]

    def missing(self, answer: str) -> list[str]:
        """What is not exactly once in an answer."""
        numbers = [int(found[1]) for found in _LOOSE_MARK.finditer(answer)]
        return [held for number, held in enumerate(self.held) if numbers.count(number) != 1]

    def invented(self, answer: str) -> list[str]:
        """Things to be kept that an answer has and the source has not."""
        held = len(self.held)
        bare = _LOOSE_MARK.sub(lambda found: "" if int(found[1]) < held else found[0], answer)
        return [piece.text for piece in pieces(bare, self.syntax) if piece.kept]

    def restored(self, answer: str) -> str:
        """An answer with what the marks stand for, written as the source's syntax has it."""
        parts, end = [], 0
        for found in _LOOSE_MARK.finditer(answer):
            if int(found[1]) < len(self.held):
                parts += [written(answer[end : found.start()], self.syntax), self.held[int(found[1])]]
                end = found.end()
        return self.before + "".join(parts) + written(answer[end:], self.syntax) + self.after

    def around(self, translated: list[str]) -> str:
        """What is kept with the texts between it translated one by one."""
        texts = iter(translated)
        parts = [
            piece.text if piece.kept or not says_something(piece.text) else written(next(texts), self.syntax)
            for piece in self.cut()
        ]
        return self.before + "".join(parts) + self.after

    def between(self) -> list[str]:
        """The texts between what is kept that say something, with the space around them."""
        return [piece.text for piece in self.cut() if not piece.kept and says_something(piece.text)]

    def cut(self) -> list[Piece]:
        """``text`` with what the marks stand for, cut there."""
        found: list[Piece] = []
        for index, part in enumerate(MARK.split(self.text)):
            if index % 2:
                found.append(Piece(self.held[int(part)], kept=True))
            elif part:
                found.append(Piece(part, kept=False))
        return found


def mark(number: int) -> str:
    """The mark of a number."""
    return f"{{{number}}}"


def masked(text: str, syntax: Syntax) -> Masked:
    """``text`` with marks for what is kept; what is kept at its ends is taken off."""
    found = pieces(text, syntax)
    first = next((index for index, piece in enumerate(found) if _speaks(piece)), len(found))
    last = next((index for index in range(len(found), 0, -1) if _speaks(found[index - 1])), first)
    before = "".join(piece.text for piece in found[:first])
    after = "".join(piece.text for piece in found[last:])
    parts: list[str] = []
    held: list[str] = []
    for piece in found[first:last]:
        if piece.kept:
            parts.append(mark(len(held)))
            held.append(piece.text)
        else:
            parts.append(piece.text)
    inner = "".join(parts)
    bare = inner.strip()
    lead, _, trail = inner.partition(bare) if bare else ("", "", inner)
    return Masked(before + lead, bare, trail + after, tuple(held), syntax)


def _speaks(piece: Piece) -> bool:
    return not piece.kept and says_something(piece.text)
