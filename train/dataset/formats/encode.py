"""Rows as a model reads them: the template's own text, its tokens, and which of them are learned from.

What is learned is what the model has to say itself: all that follows on the prompt that it is given, up to the mark
that ends its turn. Both borders come from the template's own texts of the conversation up to an answer, without and
with it; nothing is searched for in what was said, and marks such as ``{% generation %}`` are not needed.

Some templates write an answer differently once others follow it; Qwen3's leaves earlier reasoning out. Such an answer
cannot be learned in the text of the whole conversation, where it does not stand as the model would say it. It gets
a sequence of its own, which ends with it.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from serve.settings.base import Settings
from train.dataset.formats.chat import Chat, Tokens, messages_for, tools_for
from train.dataset.formats.unfit import Reason, Unfit
from train.dataset.rows import Row

Json = dict[str, Any]

#: What libraries for training take for "not learned from".
IGNORED = -100

#: Answers that no one gives, to find out where answers begin: private characters, one for each.
_NOBODYS = ("\ue0f0", "\ue0f1")


class EncodeSettings(Settings):
    """How rows become sequences.

    Attributes:
        max_tokens: of the longest sequence.
        long: a conversation that is longer is cut after its last answer that fits, or dropped.
        rewritten: an answer that the template writes differently once others follow gets the conversation up to it
            again as a sequence of its own, or is skipped, which leaves only the answers that come out unchanged.
        system_prompt: for rows without a system message, as ``user_config.system_prompt`` of a model is.
        variables: for the template, such as ``{"enable_thinking": false}``.
    """

    max_tokens: Annotated[int, Field(ge=16, lt=2**31)] = 4096
    long: Literal["cut", "drop"] = "cut"
    rewritten: Literal["repeat", "skip"] = "repeat"
    system_prompt: str | None = None
    variables: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A sequence of tokens.

    Attributes:
        text: what the tokens say, as the template wrote it.
        input_ids: the tokens.
        learned: as many; whether a token is learned from.
        answers: how many answers are.
    """

    text: str
    input_ids: list[int]
    learned: list[bool]
    answers: int

    @property
    def labels(self) -> list[int]:
        """The tokens that are learned from, and ``IGNORED`` in place of the others."""
        return [token if wanted else IGNORED for token, wanted in zip(self.input_ids, self.learned, strict=True)]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in the text of a conversation that ends with it: ``text[start:end]``, its end mark included."""

    text: str
    start: int
    end: int

    @property
    def said(self) -> str:
        """The answer as the model says it."""
        return self.text[self.start : self.end]


def encode(row: Row, chat: Chat, settings: EncodeSettings) -> list[Encoded]:
    """The sequences of a row: one, but where the template writes earlier answers differently.

    Raises:
        Unfit: nothing of it can be learned from; says why.
    """
    talk = Talk(row, chat, settings.system_prompt)
    wanted = talk.learned()
    if not wanted:
        raise Unfit(Reason.NOTHING_LEARNED)
    fitting = _fitting(talk, wanted, chat, settings.max_tokens)
    if not fitting or (settings.long == "drop" and fitting != wanted):
        raise Unfit(Reason.TOO_LONG)
    found: list[Encoded] = []
    while fitting:
        last = talk.answer(fitting[-1])
        alike = [place for place in fitting if _stands_in(talk.answer(place), last)]
        answers = [talk.answer(place) for place in alike]
        tokens = chat.tokens(last.text, [answer.start for answer in answers])
        # A template may write an earlier answer longer than it is in the whole.
        if len(tokens.ids) <= settings.max_tokens:
            found.append(_masked(last.text, tokens, answers))
        if settings.rewritten == "skip":
            break
        fitting = [place for place in fitting if place not in set(alike)]
    if not found:
        raise Unfit(Reason.TOO_LONG)
    return found


class Talk:
    """The texts of one conversation up to each of its answers.

    Args:
        system_prompt: for rows without a system message.

    Raises:
        Unfit: its messages are not for this model.
    """

    def __init__(self, row: Row, chat: Chat, system_prompt: str | None = None) -> None:
        if any(chat.controls.search(text) for text in _texts(row)):
            raise Unfit(Reason.CONTROL_TOKENS)
        self.messages = messages_for(row, system_prompt)
        self.tools = tools_for(row)
        self._weights = [None] * (len(self.messages) - len(row.messages)) + [one.weight for one in row.messages]
        self._chat = chat
        self._answers: dict[int, Answer] = {}

    def learned(self) -> list[int]:
        """Where the answers are that are learned from; what stands before the first question answers nothing."""
        roles = [message["role"] for message in self.messages]
        asked = roles.index("user")
        return [
            place
            for place, (role, weight) in enumerate(zip(roles, self._weights, strict=True))
            if role == "assistant" and weight != 0 and place > asked
        ]

    def answer(self, place: int) -> Answer:
        """The answer at ``place`` as the model would say it: with nothing after it.

        Raises:
            Unfit: the template does not take the conversation, or leaves out what is said.
        """
        if place not in self._answers:
            self._answers[place] = self.answer_with(self.messages[place], place)
        return self._answers[place]

    def answer_with(self, message: Json, place: int) -> Answer:
        """The answer ``message`` in the place of the one that is there. Raises as ``answer`` does."""
        before = self.messages[:place]
        text = self._render([*before, message])
        # What follows on the mark of a turn's end, as a line break, is never said by the model.
        found = Answer(text, self._start(text, before), len(text.rstrip()))
        if not _says(found.said, message):
            raise Unfit(Reason.ANSWER_LOST)
        return found

    def _start(self, text: str, before: Sequence[Json]) -> int:
        """Where the model's own words begin in ``text``: behind the prompt, where that is how the text begins."""
        bounds = [text]
        if self._chat.prompts:
            prompt = self._chat.render(before, self.tools, prompt=True)
            if text.startswith(prompt):
                return len(prompt)
            # The prompt begins something that is not in the text, such as reasoning.
            bounds.append(prompt)
        bounds += [self._render([*before, {"role": "assistant", "content": words}]) for words in _NOBODYS]
        common = os.path.commonprefix(bounds)
        # Without a prompt of the template's, a space before an answer is the model's to say.
        start = len(common if self._chat.prompts else common.rstrip(" "))
        if not text[:start].startswith(self._render(before)):
            raise Unfit(Reason.TEMPLATE_REFUSED)
        return start

    def _render(self, messages: Sequence[Json]) -> str:
        return self._chat.render(messages, self.tools)


def _fitting(talk: Talk, wanted: list[int], chat: Chat, most: int) -> list[int]:
    """Those of the answers that a sequence has room for, from the first on."""
    reach = len(wanted)
    size = 0
    for number, place in enumerate(wanted):
        begin = wanted[number - 1] + 1 if number else 0
        size += sum(len(message["content"]) for message in talk.messages[begin : place + 1])
        # Not even if all tokens were of the longest: spares long texts the tokenizer.
        if size > most * chat.longest_token:
            reach = number
            break
    near = wanted[:reach]

    def tokens(place: int) -> int:
        return len(chat.tokens(talk.answer(place).text).ids)

    # A token has a byte at least, which settles it for most conversations without the tokenizer.
    if not near or len(talk.answer(near[-1]).text.encode()) <= most or tokens(near[-1]) <= most:
        return near
    return near[: bisect_right(near, most, key=tokens)]


def _stands_in(answer: Answer, whole: Answer) -> bool:
    """Whether the answer, and all before it, is in the whole as it is when it is the last."""
    return whole.text.startswith(answer.text[: answer.end])


def _masked(text: str, tokens: Tokens, answers: Sequence[Answer]) -> Encoded:
    """Learned is each token with a character of an answer in it."""
    learned = [False] * len(tokens.ids)
    spans = iter(enumerate(tokens.spans))
    token, (begin, end) = next(spans)
    for answer in answers:
        while begin < answer.end:
            learned[token] = learned[token] or (begin < end and end > answer.start)
            try:
                token, (begin, end) = next(spans)
            except StopIteration:
                break
    return Encoded(text, tokens.ids, learned, len(answers))


def _says(said: str, message: Json) -> bool:
    """Whether the text of an answer has its words, white space apart, and the names of the tools that it calls."""
    calls = message.get("tool_calls") or ()
    squeezed = "".join(said.split())
    return "".join(message["content"].split()) in squeezed and all(call["function"]["name"] in said for call in calls)


def _texts(row: Row) -> Iterator[str]:
    for message in (*row.messages, *(row.rejected or ())):
        yield message.content or ""
        yield message.reasoning_content or ""
        yield from (call.function.arguments for call in message.tool_calls or ())
