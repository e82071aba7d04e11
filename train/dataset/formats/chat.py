"""A target model's tokenizer and chat template: what the model reads, and the tokens that it reads it in.

The tokenizer is transformers', from a folder, a GGUF file or a hub; its own template writes the text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError

from train.dataset.formats.unfit import Reason, Unfit
from train.dataset.rows import Message, Row

Json = dict[str, Any]

#: What the Python under a template raises on messages that it was not written for.
_TEMPLATE_FAULTS = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
_PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


class TokenizerError(Exception):
    """A tokenizer that cannot be used; the message is one line and says why."""


class Tokens(NamedTuple):
    """A text in tokens: ``spans[k]`` are the first character of token ``k``, and the first after it."""

    ids: list[int]
    spans: list[tuple[int, int]]


class Chat:
    """How one model is talked to.

    Args:
        tokenizer: a ``transformers`` tokenizer of the fast kind, with a chat template.
        variables: for the template, such as ``{"enable_thinking": False}``.

    Attributes:
        tokenizer: the same.

    Raises:
        TokenizerError: it has no template, cannot tell where its tokens stand, or its template does not take a
            question and an answer.
    """

    def __init__(self, tokenizer: Any, variables: Mapping[str, Any] | None = None) -> None:  # noqa: ANN401
        if not getattr(tokenizer, "is_fast", False):
            raise TokenizerError(
                "the tokenizer is not one of the library tokenizers, so places of tokens are unknown"
            )
        if not tokenizer.chat_template:
            raise TokenizerError("the tokenizer has no chat template")
        self.tokenizer = tokenizer
        self._variables = dict(variables or {})
        self._places = _placing(tokenizer)
        try:
            self.prompts = self.render(_PROBE[:1], prompt=True) != self.render(_PROBE[:1])
            self._end = self.render(_PROBE).rstrip()
        except Unfit as refused:
            raise TokenizerError(f"its template does not take a question and an answer: {refused}") from None

    @classmethod
    def load(cls, name: str, variables: Mapping[str, Any] | None = None) -> Chat:
        """The tokenizer of a folder, of a GGUF file, or of a hub's model; no code that comes with it is run.

        Raises:
            TokenizerError: there is none, or it cannot be used.
        """
        from transformers import AutoTokenizer

        path = Path(name)
        try:
            if path.is_file():
                # With its package it takes a second to import, which folders need not wait for.
                from serve.models.gguf_reader import hasten

                hasten()
                tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            else:
                tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # Libraries raise anything here.
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise TokenizerError(f"{name}: no tokenizer can be read: {reason}") from error
        try:
            return cls(tokenizer, variables)
        except TokenizerError as error:
            raise TokenizerError(f"{name}: {error}") from None

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits for the vocabulary, its rules and the template: equal where tokens are equal."""
        said = [self.tokenizer.backend_tokenizer.to_str(), self.tokenizer.chat_template]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    @cached_property
    def controls(self) -> re.Pattern[str]:
        """Finds the tokens that steer the model, such as the marks of turns."""
        added = self.tokenizer.added_tokens_decoder.values()
        names = {token.content for token in added if token.special} | set(self.tokenizer.all_special_tokens)
        longest_first = sorted((name for name in names if name.strip()), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    @property
    def ends_answers(self) -> bool:
        """Whether the template ends an answer with a token that the model can learn to stop with."""
        return any(found.end() == len(self._end) for found in self.controls.finditer(self._end))

    @cached_property
    def longest_token(self) -> int:
        """Characters of the longest token, or more."""
        return max(map(len, self.tokenizer.get_vocab()))

    def render(self, messages: Sequence[Json], tools: Sequence[Json] | None = None, *, prompt: bool = False) -> str:
        """The template's text of ``messages``.

        Args:
            prompt: end it with what makes the model answer.

        Raises:
            Unfit: the template does not take them.
        """
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(messages),
                tools=list(tools) if tools else None,
                add_generation_prompt=prompt,
                tokenize=False,
                **self._variables,
            )
        except _TEMPLATE_FAULTS as failure:
            raise Unfit(Reason.TEMPLATE_REFUSED) from failure
        return text

    def tokens(self, text: str, cuts: Iterable[int] = ()) -> Tokens:
        """``text`` in tokens, as ``apply_chat_template`` makes them: nothing is put before or after it.

        Args:
            cuts: places in the text, rising, that no token should reach across, as where a prompt ends that the
                model will be given by itself. Tokens do all the same where a text in two says something else, as it
                does with tokenizers that begin each text with a space.
        """
        whole = self._pieces(text, [])
        # A token begins at each place, or reaches across it.
        across = sorted(set(cuts) - {begin for begin, _ in whole.spans})
        if not across:
            return whole
        parted = self._pieces(text, across)
        return parted if self._says(parted) == self._says(whole) else whole

    def _pieces(self, text: str, cuts: list[int]) -> Tokens:
        ids, spans = [], []
        for begin, end in pairwise([0, *cuts, len(text)]):
            found = self._places.encode(text[begin:end], add_special_tokens=False)
            ids += found.ids
            spans += [(begin + first, begin + last) for first, last in found.offsets]
        return Tokens(ids, spans)

    def _says(self, tokens: Tokens) -> str:
        text: str = self._places.decode(tokens.ids, skip_special_tokens=False)
        return text


def messages_for(row: Row, system_prompt: str | None = None) -> list[Json]:
    """The row's messages as templates know them.

    A developer is the system, absent content is empty, and the arguments of calls are objects, as in this group's own
    handlers, so that a model is trained on what it will be served with.

    Args:
        system_prompt: for rows without a system message.

    Raises:
        Unfit: a call's arguments are no JSON object.
    """
    found = [message_for(message) for message in row.messages]
    if system_prompt is not None and found[0]["role"] != "system":
        found.insert(0, {"role": "system", "content": system_prompt})
    return found


def message_for(message: Message) -> Json:
    """One message as templates know it. Raises as ``messages_for`` does."""
    found: Json = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.content or "",
    }
    for name in ("name", "tool_call_id", "reasoning_content"):
        if (value := getattr(message, name)) is not None:
            found[name] = value
    if message.tool_calls:
        found["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": _arguments(call.function.arguments)},
            }
            for call in message.tool_calls
        ]
    return found


def tools_for(row: Row) -> list[Json] | None:
    """The functions on offer as templates know them: without ``strict``, which is for servers."""
    if not row.tools:
        return None
    return [
        {**tool, "function": {name: value for name, value in tool["function"].items() if name != "strict"}}
        if isinstance(tool.get("function"), dict)
        else tool
        for tool in row.tools
    ]


def _arguments(text: str) -> Json:
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise Unfit(Reason.ARGUMENTS)
    return arguments


def _placing(tokenizer: Any) -> Any:  # noqa: ANN401
    """The tokenizer's rules without those that follow on the tokens: some of these cut white space off the places."""
    from tokenizers import Tokenizer

    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules.update(post_processor=None, truncation=None, padding=None)
    return Tokenizer.from_str(json.dumps(rules))
