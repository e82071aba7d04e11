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
from train.evaluate.served import Said, Served
from train.evaluate.stack import Progress, Stack, Written

Json = dict[str, Any]

#: The least share of answers whose logprobs could be compared; of fewer the distance says nothing.
LEAST_COMPARED = 0.5


@dataclass(frozen=True, slots=True)
class Compared:
    """One prompt.

    Attributes:
        trained, served: the likeliest answers of both sides.
        same: whether they are the same: token for token where the served tokens can be told, else by their text.
        distances: of the logprobs of the served answer's tokens, in nats; none where the tokenizer writes the answer
            in other tokens than the model did.
    """

    question: str
    trained: str
    served: str
    same: bool
    distances: list[float] | None


@dataclass(frozen=True, slots=True)
class AgreementResult:
    """All prompts.

    Attributes:
        base: the same for the base, which has no adapter that could be wrong: how far apart the two sides are by how
            each holds its weights.
    """

    compared: list[Compared]
    base: AgreementResult | None = None

    @property
    def share(self) -> float:
        """The share of the same answers."""
        return sum(one.same for one in self.compared) / len(self.compared)

    @property
    def distance(self) -> float:
        """Mean distance of logprobs over all tokens; not a number where too few answers could be compared."""
        found = [one.distances for one in self.compared if one.distances]
        if not found or len(found) < LEAST_COMPARED * len(self.compared):
            return math.nan
        distances = [one for answer in found for one in answer]
        return math.fsum(distances) / len(distances)

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
    *,
    tuned: bool,
) -> AgreementResult:
    """Ask both sides for the likeliest answer to each conversation.

    Args:
        model: as the group calls what is asked: the adapter where it is ``tuned``, else the base.
        tokens: of each answer.
        variables: for the template, on both sides.

    Raises:
        ServedError: the group does not answer.
    """
    prompts = [stack.chat.render(conversation, prompt=True) for conversation in conversations]
    said = served.answer(model, conversations, tokens, variables=variables, progress=progress)
    trained = stack.write(prompts, tokens, tuned=tuned, progress=progress)
    asked = [as_scored(stack.chat, prompt, one) for prompt, one in zip(prompts, said, strict=True)]
    scored = iter(stack.score([one for one in asked if one is not None], tuned=tuned))
    return AgreementResult(
        [
            Compared(
                conversation[-1]["content"],
                own.text,
                one.text,
                is_same(own, one, sequence),
                None if sequence is None else _distances(one.logprobs, next(scored).logprobs),
            )
            for conversation, own, one, sequence in zip(conversations, trained, said, asked, strict=True)
        ]
    )


def is_same(trained: Written, served: Said, scored: Encoded | None) -> bool:
    """Whether both sides wrote the same.

    Args:
        scored: the served answer in tokens, where they can be told.
    """
    if scored is None:
        # Half a character at the end is left out by the group.
        return trained.text.rstrip("\ufffd").strip() == served.text.rstrip("\ufffd").strip()
    said = [token for token, wanted in zip(scored.input_ids, scored.learned, strict=True) if wanted]
    return said == trained.said


def _distances(served: Sequence[float], trained: Sequence[float]) -> list[float]:
    return [abs(one - other) for one, other in zip(served, trained, strict=True)]


def as_scored(chat: Chat, prompt: str, said: Said) -> Encoded | None:
    """The prompt with the served answer, to be scored where its tokens are those that the model wrote."""
    answer = said.text
    pieces = [answer[begin:end] for begin, end in chat.tokens(answer).spans]
    # A token that is part of a character is told as what no text has.
    apart = bool(pieces) and all(pieces) and "".join(pieces) == answer
    if not apart or pieces != said.tokens:
        return None
    before = len(chat.tokens(prompt).ids)
    ids = chat.tokens(prompt + answer, [len(prompt)]).ids
    return Encoded(prompt + answer, ids, [place >= before for place in range(len(ids))], 1)
