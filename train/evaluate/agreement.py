"""Train side against serve side: the same prompts through the libraries that trained, and through the group.

A model that trains well and serves nonsense has another template, other weights, an adapter that was converted
wrongly: all of it shows here, before anybody asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from train.dataset.formats import Chat, Encoded
from train.evaluate.measures import continued
from train.evaluate.served import Said, Served
from train.evaluate.stack import Progress, Stack

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Compared:
    """One prompt.

    Attributes:
        trained, served: the likeliest answers of both sides.
        distances: of the logprobs of the served answer's tokens, in nats; none where the tokenizer writes the answer
            in other tokens than the model did.
    """

    question: str
    trained: str
    served: str
    distances: list[float] | None

    @property
    def same(self) -> bool:
        """Whether both say the same; half a character at the end, which the group leaves out, does not count."""
        return self.trained.rstrip("\ufffd").strip() == self.served.rstrip("\ufffd").strip()


@dataclass(frozen=True, slots=True)
class AgreementResult:
    """All prompts."""

    compared: list[Compared]

    @property
    def share(self) -> float:
        """The share of the same answers."""
        return sum(one.same for one in self.compared) / len(self.compared)

    @property
    def distance(self) -> float:
        """Mean distance of logprobs over all tokens; not a number where no answer could be compared."""
        distances = [one for found in self.compared for one in found.distances or ()]
        return math.fsum(distances) / len(distances) if distances else math.nan

    @property
    def tokens(self) -> int:
        """How many logprobs were compared."""
        return sum(len(found.distances or ()) for found in self.compared)


def compare(
    stack: Stack,
    served: Served,
    model: str,
    conversations: Sequence[list[Json]],
    tokens: int,
    variables: Json,
    progress: Progress,
) -> AgreementResult:
    """Ask both sides for the likeliest answer to each conversation.

    Args:
        model: as the group calls the adapter.
        tokens: of each answer.
        variables: for the template, on both sides.

    Raises:
        ServedError: the group does not answer.
    """
    prompts = [stack.chat.render(conversation, prompt=True) for conversation in conversations]
    said = served.answer(model, conversations, tokens, variables=variables, progress=progress)
    trained = stack.answer(prompts, tokens, tuned=True, progress=progress)
    asked = [as_scored(stack.chat, prompt, one) for prompt, one in zip(prompts, said, strict=True)]
    scored = iter(stack.score([one for one in asked if one is not None], tuned=True))
    return AgreementResult(
        [
            Compared(
                conversation[-1]["content"],
                own,
                one.text,
                None if sequence is None else _distances(one.logprobs, next(scored).logprobs),
            )
            for conversation, own, one, sequence in zip(conversations, trained, said, asked, strict=True)
        ]
    )


def _distances(served: Sequence[float], trained: Sequence[float]) -> list[float]:
    return [abs(one - other) for one, other in zip(served, trained, strict=True)]


def as_scored(chat: Chat, prompt: str, said: Said) -> Encoded | None:
    """The prompt with the served answer, to be scored where its tokens are those that the model wrote."""
    pieces = [said.text[begin:end] for begin, end in chat.tokens(said.text).spans]
    # A token that is part of a character is told as what no text has.
    apart = bool(pieces) and all(pieces) and "".join(pieces) == said.text
    return continued(chat, prompt, said.text) if apart and pieces == said.tokens else None
