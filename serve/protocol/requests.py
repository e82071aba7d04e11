"""The requests of OpenAI's API, typed and checked.

Fields follow https://platform.openai.com/docs/api-reference/chat/create and .../completions/create, and the
sampling parameters that llama.cpp and vLLM add (``top_k``, ``min_p``, ``repetition_penalty``). A field that no
handler here can honour but that clients send anyway is in ``_Ignored`` and has no effect; any other unknown
field is an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from serve.protocol.translation import TranslationOptions

#: The name that leaves the choice of a model to the gateway.
AUTO = "auto"

MAX_CHOICES = 16
MAX_STOPS = 16

Probability = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
#: OpenAI's bounds: 16 pairs, keys of 64 characters, values of 512.
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
TokenCount = Annotated[int, Field(ge=1)]
StopText = Annotated[str, Field(min_length=1, max_length=1024)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)


class TextPart(_Body):
    """A piece of text in a message's content."""

    type: Literal["text"]
    text: str


class ImageUrl(_Body):
    """Where a picture is: an https address or a data URL."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(_Body):
    """A picture in a message's content."""

    type: Literal["image_url"]
    image_url: ImageUrl


ContentPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class FunctionCall(_Body):
    """A call as the assistant wrote it; ``arguments`` is JSON text."""

    name: str
    arguments: str


class ToolCall(_Body):
    """A tool call in an assistant message."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = None


class Message(_Body):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: Any = None
    function_call: None = None

    @model_validator(mode="after")
    def _says_something(self) -> Message:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("content is required, except in an assistant message that has tool_calls")
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a message of role 'tool' needs tool_call_id")
        return self

    def text(self) -> str:
        """The message's text, its text parts joined."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content if isinstance(part, TextPart))
        return self.content or ""

    def images(self) -> list[ImagePart]:
        """The message's pictures, in order."""
        if isinstance(self.content, list):
            return [part for part in self.content if isinstance(part, ImagePart)]
        return []


class FunctionDefinition(_Body):
    """A function that the model may call; ``parameters`` is a JSON schema."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Body):
    """A tool that the model may call."""

    type: Literal["function"] = "function"
    function: FunctionDefinition


class NamedFunction(_Body):
    """A function by its name."""

    name: str


class NamedTool(_Body):
    """The one tool that the model must call."""

    type: Literal["function"] = "function"
    function: NamedFunction


class TextFormat(_Body):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(_Body):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(_Body):
    """A named JSON schema."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True, populate_by_name=True)

    name: str
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")] = Field(default_factory=dict)
    strict: bool | None = None


class JsonSchemaFormat(_Body):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StreamOptions(_Body):
    """What a stream carries besides deltas."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class SamplingFields(_Body):
    """The sampling parameters that chat and text completions share; absent means the model's default."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Probability | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1

    @model_validator(mode="after")
    def _bias_names_tokens(self) -> SamplingFields:
        for key in self.logit_bias or {}:
            if not key.isdecimal() or len(key) > 9:
                raise ValueError(f"logit_bias has the key {key!r}, which is not a token id")
        return self


class _Ignored(_Body):
    """Fields that are understood and have no effect on what a local model does. A field that is null is absent."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, raw: object) -> object:
        return {key: value for key, value in raw.items() if value is not None} if isinstance(raw, dict) else raw

    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    verbosity: str | None = None
    prediction: dict[str, Any] | None = None
    modalities: list[Literal["text"]] | None = None


def split_model(name: str) -> tuple[str, str | None]:
    """The model and the adapter that ``name`` asks for: an id, or ``id:adapter``; no adapter without a colon."""
    model, colon, adapter = name.partition(":")
    return model, adapter if colon else None


class _Generates(_Body):
    """What asks a model for text. ``model`` is an id, or ``id:adapter``."""

    model: str

    @property
    def adapter(self) -> str | None:
        """The name after the first colon of ``model``; none where the model itself is asked for."""
        return split_model(self.model)[1]


class ChatRequest(_Generates, SamplingFields, _Ignored):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    translation_options: TranslationOptions | None = None
    store: StrictBool | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> ChatRequest:
        if self.translation_options is not None and [one.role for one in self.messages] != ["user"]:
            raise ValueError("messages must be exactly one, of role 'user', where there are translation_options")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice needs tools")
        if isinstance(self.tool_choice, NamedTool):
            names = [tool.function.name for tool in self.tools or []]
            if self.tool_choice.function.name not in names:
                raise ValueError(f"tool_choice names {self.tool_choice.function.name!r}, which is not in tools")
        return self

    @property
    def token_limit(self) -> int | None:
        """The most tokens to generate for each choice; none when the request sets no limit."""
        return self.max_completion_tokens or self.max_tokens


def with_system_prompt(request: ChatRequest, prompt: str | None) -> ChatRequest:
    """The request with ``prompt`` before its messages, unless it brings a system message of its own."""
    if prompt is None or any(message.role in ("system", "developer") for message in request.messages):
        return request
    return request.model_copy(update={"messages": [Message(role="system", content=prompt), *request.messages]})


class CompletionRequest(_Generates, SamplingFields, _Ignored):
    """``POST /v1/completions``."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: TokenCount = 16
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: Literal[False] = False
    suffix: None = None
    best_of: Literal[1] | None = None

    @property
    def text(self) -> str:
        """The prompt's text."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class EmbeddingRequest(_Ignored):
    """``POST /v1/embeddings``. ``input_type`` is for models that embed questions and passages differently."""

    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    input_type: Literal["query", "passage"] = "passage"

    @property
    def texts(self) -> list[str]:
        """The inputs as a list."""
        return [self.input] if isinstance(self.input, str) else self.input
