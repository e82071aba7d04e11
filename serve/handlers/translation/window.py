"""What a model's context holds: what it is told, a piece of text, and the answer.

A task has no tokenizer, so tokens are estimated, and rather too many than too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from serve.errors import InvalidRequest
from serve.handlers.translation.prompts import Task, prompt_text, token_limit
from serve.protocol.translation import Pair

#: Half of what a letter of English takes, about what one of Cyrillic or Chinese does, in any common tokenizer.
_TOKENS_PER_BYTE = 0.5
#: What a chat template puts around a prompt, and what is said of an answer that was wrong.
_SPARE_TOKENS = 128
#: A neighbour on one side may have so many characters for each token of the context.
_NEIGHBOUR_SHARE = 1 / 16


@dataclass(frozen=True, slots=True)
class Window:
    """The context of whoever translates.

    Attributes:
        tokens: how many it holds; none where that is not known, and everything is taken to fit.
    """

    tokens: int | None

    def holds(self, task: Task) -> bool:
        """Whether what ``task`` tells and asks fits, with the longest answer that it may have."""
        if self.tokens is None:
            return True
        needed = _tokens(prompt_text(task)) + token_limit(task) + _SPARE_TOKENS
        return needed <= self.tokens

    def neighbour_chars(self, wanted: int) -> int:
        """How much of each neighbour can be shown, of the ``wanted`` characters."""
        return wanted if self.tokens is None else min(wanted, int(self.tokens * _NEIGHBOUR_SHARE))

    def examples(self, task: Task, nearest: Sequence[Pair]) -> tuple[Pair, ...]:
        """Those of the examples that fit beside the rest of ``task``, the likest before others; that one is last."""
        found: tuple[Pair, ...] = ()
        for pair in reversed(nearest):
            if self.holds(replace(task, examples=(pair, *found))):
                found = (pair, *found)
        return found

    def check(self, task: Task, model: str) -> None:
        """See that a text which cannot be made smaller is not kept out by what is told beside it.

        Raises:
            InvalidRequest: names the field that takes most.
        """
        if self.holds(task) or not self.holds(replace(task, terms=(), domains=None)):
            return
        sizes = {
            "terms": _tokens("".join(pair.source + pair.target for pair in task.terms)),
            "domains": _tokens(task.domains or ""),
        }
        field = max(sizes, key=lambda name: sizes[name])
        part = "those of one passage take" if field == "terms" else "it takes"
        raise InvalidRequest(
            f"{field}: {part} about {sizes[field]} tokens, and the context of {model!r} has {self.tokens} for"
            " everything; make it shorter, or name a model with a longer context.",
            param=field,
            code="context_length_exceeded",
        )


def _tokens(text: str) -> int:
    return int(len(text.encode()) * _TOKENS_PER_BYTE) + 1
