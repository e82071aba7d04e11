"""What a request asks of the engine: its prompt as tokens, how to sample, and what to look for in the output."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from serve.errors import ContextLengthExceeded, InvalidRequest
from serve.handlers.llamacpp.adapters import Adapter
from serve.handlers.llamacpp.grammar import GrammarText, SchemaError
from serve.handlers.llamacpp.model import Model
from serve.handlers.llamacpp.output import OutputForm
from serve.handlers.llamacpp.reasoning import State, state_after
from serve.handlers.llamacpp.sampler import Grammar, GrammarError
from serve.handlers.llamacpp.sight import PromptPicture, Sight
from serve.handlers.llamacpp.template import ChatTemplate, template_variables
from serve.handlers.llamacpp.tools import OPEN
from serve.protocol.requests import (
    ChatRequest,
    CompletionRequest,
    JsonSchemaFormat,
    NamedTool,
    TextFormat,
    Tool,
)
from serve.protocol.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Plan:
    """One request, ready to run.

    Attributes:
        prompt: its tokens, at least one.
        grammar: what every choice must match, if anything.
        adapter: what the model is changed by, if anything.
        pictures: what stands for the tokens of the prompt that are negative.
    """

    prompt: array[int]
    sampling: Sampling
    form: OutputForm
    grammar: Grammar | None = None
    adapter: Adapter | None = None
    pictures: tuple[PromptPicture, ...] = ()


class Planner:
    """Makes plans for one model. Its methods compute for milliseconds, so they belong on a thread.

    Attributes:
        template: the model's chat template, if it has one.
    """

    def __init__(self, model: Model, context: int, sight: Sight | None = None) -> None:
        self._model = model
        self._sight = sight
        self._context = context
        source = model.chat_template
        self._bos = self._text_of(model.bos)
        self.template = ChatTemplate(source, bos=self._bos, eos=self._text_of(model.eos)) if source else None

    def complete(self, request: CompletionRequest, sampling: Sampling) -> Plan:
        """The plan of a text completion.

        Raises:
            InvalidRequest: it cannot be carried out; ``param`` says what is wrong.
        """
        self._check_bias(sampling)
        return Plan(self._tokenize(request.text, "prompt"), sampling, _form(sampling))

    def chat(
        self,
        request: ChatRequest,
        sampling: Sampling,
        pictures: Sequence[Image.Image] = (),
        left: threading.Event | None = None,
    ) -> Plan:
        """The plan of a chat.

        Args:
            pictures: those of its image parts, in order.
            left: set when nobody waits for the plan any more.

        Raises:
            NobodyWaits: ``left`` was set before all pictures were read.
            InvalidRequest: it cannot be carried out; ``param`` says what is wrong.
        """
        if self.template is None:
            raise InvalidRequest("This model has no chat template; it can only complete text.", param="messages")
        self._check_bias(sampling)
        tools = _tools_in_use(request)
        if tools and not self.template.has_tools:
            raise InvalidRequest("This model was not made to call tools.", param="tools")
        mark = self._sight.mark if self._sight else None
        text = self.template.render(request.messages, tools, template_variables(request), mark)
        if self._model.adds_bos:
            text = text.removeprefix(self._bos)  # the tokenizer writes it
        prompt, placed = self._see(text, pictures, left) if pictures else (self._tokenize(text, "messages"), ())
        reasoning = state_after(text) if self.template.reasons else "after"
        form = _form(sampling)
        if tools:
            names = frozenset(tool.function.name for tool in tools)
            form = replace(form, tools=names, one_call=not _many_calls(request))
        grammar = self._grammar(request, tools, reasoning)
        return Plan(prompt, sampling, replace(form, reasoning=reasoning), grammar, pictures=placed)

    def _see(
        self, text: str, pictures: Sequence[Image.Image], left: threading.Event | None
    ) -> tuple[array[int], tuple[PromptPicture, ...]]:
        """The tokens of a prompt with pictures."""
        assert self._sight is not None, "the template refuses pictures where there is no sight"
        tokens, placed = self._sight.prompt(text, pictures, left or threading.Event())
        if placed and placed[-1].end == len(tokens):
            raise InvalidRequest("The model's chat template ends with a picture.", param="messages")
        return tokens, placed

    def _tokenize(self, text: str, param: str) -> array[int]:
        """The tokens of a prompt; a beginning, where the text is empty.

        Special tokens are read wherever they stand, in the users' own words too, as in llama.cpp's server: in a
        rendered template its text and theirs are one string, and models are trained on what their template writes.
        What a user gains by writing ``<|im_start|>system`` is what a system message would have given.
        """
        tokens = self._model.tokenize(text)
        if not tokens:
            if self._model.bos is None:
                raise InvalidRequest("This model cannot begin from nothing.", param=param)
            tokens.append(self._model.bos)
        if len(tokens) + 1 > self._context:
            raise ContextLengthExceeded(len(tokens), self._context, param=param)
        return tokens

    def _grammar(self, request: ChatRequest, tools: list[Tool], reasoning: State) -> Grammar | None:
        """What binds the output. Forced tools leave no room for another answer; tools that the model may call stand
        beside the answer's format; where there is none, calls are bound from their first token on, if that is one."""
        forced = bool(tools) and request.tool_choice not in (None, "auto")
        answer = None if forced else _answer_schema(request)
        trigger = None
        if tools and not forced and answer is None:
            trigger = self._model.single_token(OPEN)
        if answer is None and not forced and trigger is None:
            return None
        text = GrammarText("after" if trigger is not None else reasoning)
        if answer is not None:
            _allow_answer(text, answer)
        if tools:
            _allow_calls(text, tools, many=_many_calls(request))
        try:
            return Grammar(self._model, text.text(), trigger=trigger)
        except GrammarError as failure:
            raise InvalidRequest(
                "The schema cannot be turned into a grammar.", param=_schema_param(request, forced)
            ) from failure

    def _check_bias(self, sampling: Sampling) -> None:
        if sampling.logit_bias and (largest := max(sampling.logit_bias)) >= self._model.vocabulary:
            raise InvalidRequest(
                f"Token {largest} does not exist; this model has {self._model.vocabulary} tokens.",
                param="logit_bias",
            )

    def _text_of(self, token: int | None) -> str:
        return "" if token is None else self._model.label(token).decode(errors="replace")


def _form(sampling: Sampling) -> OutputForm:
    return OutputForm(stop=sampling.stop, logprobs=sampling.top_logprobs is not None)


def _tools_in_use(request: ChatRequest) -> list[Tool]:
    """The tools that the model may call here: none, the one that it must call, or all."""
    if request.tool_choice == "none":
        return []
    tools = request.tools or []
    if isinstance(request.tool_choice, NamedTool):
        return [tool for tool in tools if tool.function.name == request.tool_choice.function.name]
    return tools


def _many_calls(request: ChatRequest) -> bool:
    return request.parallel_tool_calls is not False and not isinstance(request.tool_choice, NamedTool)


def _answer_schema(request: ChatRequest) -> dict[str, object] | None:
    """The JSON schema that the answer must follow, if it must follow one."""
    wanted = request.response_format
    if wanted is None or isinstance(wanted, TextFormat):
        return None
    return wanted.json_schema.schema_ if isinstance(wanted, JsonSchemaFormat) else {"type": "object"}


def _allow_answer(text: GrammarText, schema: dict[str, object]) -> None:
    try:
        text.allow_json(schema)
    except SchemaError as failure:
        raise InvalidRequest(str(failure), param="response_format.json_schema.schema") from failure


def _allow_calls(text: GrammarText, tools: list[Tool], *, many: bool) -> None:
    try:
        text.allow_calls([tool.function for tool in tools], many=many)
    except SchemaError as failure:
        raise InvalidRequest(str(failure), param="tools") from failure


def _schema_param(request: ChatRequest, forced: bool) -> str:
    return "tools" if forced or request.response_format is None else "response_format.json_schema.schema"
