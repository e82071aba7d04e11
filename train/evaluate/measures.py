"""What is measured on the training side: what was learned, and what was forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from train.dataset.formats import Chat, Encoded, EncodeSettings, Unfit, encode
from train.dataset.rows import Row
from train.evaluate.data import names_in, words_in
from train.evaluate.stack import Progress, Scored, Stack


@dataclass(frozen=True, slots=True)
class Loss:
    """How well answers are foreseen.

    Attributes:
        tokens: that were scored.
        base, tuned: mean negative logprob of a token, in nats.
    """

    tokens: int
    base: float
    tuned: float

    @property
    def ratio(self) -> float:
        """The tuned loss over the base's."""
        return self.tuned / self.base if self.base else math.inf

    @property
    def perplexity_rise(self) -> float:
        """By how much the tuned perplexity is above the base's: 0.1 for 10 %."""
        return math.exp(self.tuned - self.base) - 1


@dataclass(frozen=True, slots=True)
class Sample:
    """A question with the answers of both, and the one that was held out where there is one."""

    question: str
    base: str
    tuned: str
    wanted: str | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """What became of the base's own answers to general prompts.

    Attributes:
        leaks: answers of the tuned model that name what only the training data names, with these names.
        unanswered: prompts to which the base says nothing, which are left out.
    """

    loss: Loss
    prompts: int
    leaks: list[tuple[Sample, list[str]]]
    samples: list[Sample]
    unanswered: int


def encoded(rows: Sequence[Row], chat: Chat, settings: EncodeSettings) -> list[Encoded]:
    """The sequences of the rows that fit this model."""
    found: list[Encoded] = []
    for row in rows:
        try:
            found += encode(row, chat, settings)
        except Unfit:
            continue
    return found


def continued(chat: Chat, prompt: str, answer: str) -> Encoded:
    """A prompt in the template's text and an answer to it, whose tokens are what is scored."""
    before = len(chat.tokens(prompt).ids)
    ids = chat.tokens(prompt + answer, [len(prompt)]).ids
    return Encoded(prompt + answer, ids, [place >= before for place in range(len(ids))], 1)


def loss_of(stack: Stack, sequences: Sequence[Encoded], progress: Progress) -> Loss:
    """The loss on what is learned in the sequences, of both."""
    base, tuned = (stack.score(sequences, tuned=on, progress=progress) for on in (False, True))
    return Loss(sum(len(one.logprobs) for one in base), _mean(base), _mean(tuned))


def retention_of(
    stack: Stack,
    prompts: Sequence[str],
    max_tokens: int,
    settings: EncodeSettings,
    trained: Sequence[Row],
    progress: Progress,
) -> Retention:
    """The base's answers to the prompts, as likely as they still are, and what the tuned model says instead."""
    questions = [_prompt(stack.chat, prompt, settings) for prompt in prompts]
    base, tuned = (stack.answer(questions, max_tokens, tuned=on, progress=progress) for on in (False, True))
    samples = [Sample(*said) for said in zip(prompts, base, tuned, strict=True)]
    # Without the mark of an answer's end: most of them are cut off before it.
    answers = [
        continued(stack.chat, question, one.base)
        for question, one in zip(questions, samples, strict=True)
        if one.base.strip()
    ]
    loss = loss_of(stack, answers, progress)
    return Retention(loss, len(prompts), leaks_in(samples, trained), samples, len(samples) - len(answers))


def leaks_in(samples: Sequence[Sample], trained: Sequence[Row]) -> list[tuple[Sample, list[str]]]:
    """The tuned answers that name what the training data names, and neither the question nor any of the base's
    answers does."""
    names = names_in(message.content or "" for row in trained for message in row.messages)
    names -= {word for one in samples for word in words_in(one.base)}
    found = ((one, sorted(words_in(one.tuned) & (names - words_in(one.question)))) for one in samples)
    return [(one, leaked) for one, leaked in found if leaked]


def prompts_for(rows: Sequence[Row], chat: Chat, settings: EncodeSettings) -> list[tuple[list[dict[str, str]], str]]:
    """The question of each row and the answer that was held out; rows with tools, and those that the template does
    not take, are left out."""
    found = []
    for row in rows:
        said = [{"role": one.role, "content": one.content or ""} for one in row.messages]
        if row.tools or {one["role"] for one in said} - {"system", "developer", "user", "assistant"}:
            continue
        place = max(number for number, one in enumerate(said) if one["role"] == "user")
        if place + 1 >= len(said):
            continue
        question = with_system(said[: place + 1], settings.system_prompt)
        try:
            chat.render(question, prompt=True)
        except Unfit:
            continue
        found.append((question, said[place + 1]["content"]))
    return found


def with_system(messages: list[dict[str, str]], prompt: str | None) -> list[dict[str, str]]:
    """The messages with a system message before them, unless they bring their own."""
    found = [{**one, "role": "system"} if one["role"] == "developer" else one for one in messages]
    if prompt is not None and found[0]["role"] != "system":
        found.insert(0, {"role": "system", "content": prompt})
    return found


def _prompt(chat: Chat, question: str, settings: EncodeSettings) -> str:
    return chat.render(with_system([{"role": "user", "content": question}], settings.system_prompt), prompt=True)


def _mean(scored: Sequence[Scored]) -> float:
    total = sum(len(one.logprobs) for one in scored)
    return -math.fsum(logprob for one in scored for logprob in one.logprobs) / total if total else math.nan
