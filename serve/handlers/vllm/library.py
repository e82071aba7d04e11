"""vLLM itself: the one module that uses parts of it which it does not promise to keep.

- ``OpenAIServingChat``: vLLM's chat server. It renders the prompt, places pictures, writes the sampling parameters,
  binds the output to tools and schemas and makes the parsers. Its stream generator is replaced by one that yields our
  events instead of SSE text, which we would have to read again.
- ``OnlineRenderer`` and ``OpenAIServingModels``: what the chat server is made of.
- ``output_processor.propagate_error``: what ends the requests that run when the engine is stopped.
"""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import psutil
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest
from vllm.renderers.chat_utils import load_chat_template
from vllm.renderers.hf import resolve_chat_template
from vllm.renderers.inputs.preprocess import parse_model_prompt
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from serve.errors import ContextLengthExceeded, InvalidRequest
from serve.handlers.vllm.output import Choice, Parse, events
from serve.handlers.vllm.reaper import Reaper
from serve.handlers.vllm.stats import EngineStats
from serve.protocol.events import Event
from serve.settings.engines import VllmEngine

Events = AsyncGenerator[Sequence[Event], None]


class EventChat(OpenAIServingChat):  # type: ignore[misc]  # vLLM is not typed here
    """vLLM's chat server, with our events for its stream."""

    async def render_chat_request(self, request: Any) -> Any:
        """Render the prompt, and see that a token of answer fits after it."""
        rendered = await super().render_chat_request(request)
        if not isinstance(rendered, ErrorResponse):
            for prompt in rendered[1]:
                check_room(self._extract_prompt_len(prompt), self.model_config.max_model_len, "messages")
        return rendered

    def chat_completion_stream_generator(
        self, request: Any, result_generator: Any, *rest: Any, **named: Any
    ) -> Events:
        """The events of one answer."""
        top = request.top_logprobs if request.logprobs else None
        kwargs = named.get("chat_template_kwargs")
        choices = [
            Choice(index, self._parse(request, kwargs), top=top, one_call=not request.parallel_tool_calls)
            for index in range(request.n)
        ]
        return events(result_generator, choices)

    def _parse(self, request: Any, kwargs: dict[str, Any] | None) -> Parse | None:
        if self.parser_cls is None:
            return None
        parser = self._make_parser(request, self.renderer.tokenizer, kwargs)

        def parse(text: str, tokens: Sequence[int], prompt: Sequence[int] | None, finished: bool) -> Any:
            return parser.parse_delta(
                delta_text=text,
                delta_token_ids=list(tokens),
                request=request,
                prompt_token_ids=prompt,
                finished=finished,
            )

        return parse


class Library:
    """A running engine.

    Attributes:
        context: most tokens of prompt and answer together.
        chats: whether the model has a chat template.
        sees: whether it takes pictures.
        cache_bytes: memory of the cache, on all devices together.
    """

    def __init__(self, client: Any, reaper: Reaper, model: str, settings: VllmEngine) -> None:
        self._client = client
        self._reaper = reaper
        config = client.model_config
        self.context: int = config.max_model_len
        self.sees: bool = config.is_multimodal_model and settings.images > 0
        self.cache_bytes = _cache_bytes(client.vllm_config)
        template = load_chat_template(settings.chat_template)
        tokenizer = client.renderer.tokenizer
        self.chats = resolve_chat_template(tokenizer, template, None, model_config=config) is not None
        self._models = OpenAIServingModels(client, [BaseModelPath(name=model, model_path=config.model)])
        parsers = {
            "enable_auto_tools": settings.tool_parser is not None,
            "tool_parser": settings.tool_parser,
            "reasoning_parser": settings.reasoning_parser or "",
        }
        face = {"request_logger": None, "chat_template": template, "chat_template_content_format": "auto", **parsers}
        renderer = OnlineRenderer(config, client.renderer, **face)
        self._chat = EventChat(client, self._models, "assistant", online_renderer=renderer, **face)

    @staticmethod
    async def start(model: str, arguments: dict[str, Any], settings: VllmEngine, stats: EngineStats) -> Library:
        """Start the engine's processes and wait until the model is loaded.

        Raises:
            RuntimeError, ValueError, OSError: it cannot be loaded.
        """

        def start() -> AsyncLLM:
            return AsyncLLM.from_engine_args(_engine_args(arguments), stat_loggers=[stats.factory])

        here = psutil.Process()
        before = set(here.children(recursive=True))
        client = await asyncio.to_thread(start)
        reaper = Reaper([one for one in here.children(recursive=True) if one not in before])
        try:
            return Library(client, reaper, model, settings)
        except BaseException:
            client.shutdown()
            reaper.close()
            raise

    async def stop(self) -> None:
        """End the engine's processes; running requests fail."""
        self._client.output_processor.propagate_error(EngineDeadError())
        await asyncio.to_thread(self._client.shutdown, 10.0)
        await asyncio.to_thread(self._reaper.close)

    async def check(self) -> None:
        """Raise when the engine is dead."""
        await self._client.check_health()

    async def chat(self, fields: dict[str, Any]) -> Events:
        """Begin an answer to a request that has ``fields``; vLLM's errors are raised as they are.

        Raises:
            InvalidRequest: vLLM refuses it. ContextLengthExceeded: no token of answer fits after the prompt.
        """
        found = await self._chat.create_chat_completion(ChatCompletionRequest.model_validate(fields))
        if isinstance(found, ErrorResponse):
            raise InvalidRequest(f"The engine does not take this: {found.error.message}", param=found.error.param)
        stream: Events = found
        return stream

    async def complete(
        self, text: str, fields: dict[str, Any], max_tokens: int | None, top: int | None, adapter: str | None
    ) -> Events:
        """Begin to continue ``text``.

        Raises:
            ContextLengthExceeded: no token fits after the prompt.
        """
        client = self._client
        prompt = parse_model_prompt(client.model_config, text)
        [rendered] = await client.renderer.render_cmpl_async([prompt])
        length = self._chat._extract_prompt_len(rendered)
        check_room(length, self.context, "prompt")
        room = self.context - length
        params = SamplingParams(
            **fields, max_tokens=min(max_tokens or room, room), logprobs=top, output_kind=RequestOutputKind.DELTA
        )
        lora = self._models.lora_requests[adapter] if adapter else None
        results = client.generate(rendered, params, f"cmpl-{uuid.uuid4().hex}", lora_request=lora)
        return events(results, [Choice(index, top=top) for index in range(params.n)])

    async def add_adapter(self, name: str, folder: Path) -> str | None:
        """Load a PEFT adapter and give it a name; what speaks against it, if anything does."""
        request = LoadLoRAAdapterRequest(lora_name=name, lora_path=str(folder))
        found = await self._models.load_lora_adapter(request)
        return str(found.error.message) if isinstance(found, ErrorResponse) else None

    async def remove_adapter(self, name: str) -> None:
        """Forget an adapter; requests that use it go on."""
        lora = self._models.lora_requests.pop(name)
        await self._client.remove_lora(lora.lora_int_id)

    @property
    def queued_tokens(self) -> int:
        """Prompt tokens of requests that have not generated yet."""
        return int(self._client.get_num_queued_tokens())

    @property
    def unfinished(self) -> int:
        """Sequences that the engine has not ended."""
        return int(self._client.get_num_unfinished_requests())


def check_room(prompt: int, context: int, param: str) -> None:
    """See that at least one token fits after a prompt of ``prompt`` tokens.

    Raises:
        ContextLengthExceeded: it does not.
    """
    if prompt >= context:
        raise ContextLengthExceeded(prompt, context, param=param)


def _engine_args(arguments: dict[str, Any]) -> Any:
    """``arguments`` as vLLM's object; a mapping for one of its nested settings becomes an object of its class."""
    made = dict(arguments)
    for field in dataclasses.fields(AsyncEngineArgs):
        if isinstance(made.get(field.name), dict) and field.default_factory is not dataclasses.MISSING:
            default: Any = field.default_factory()
            if dataclasses.is_dataclass(default):
                made[field.name] = default.__class__(**made[field.name])
    return AsyncEngineArgs(**made)


def _cache_bytes(config: Any) -> int:
    """Keys and values of every token that the cache holds: layers x KV heads x head size x 2 x bytes of each."""
    model, cache = config.model_config, config.cache_config
    layers = model.get_total_num_hidden_layers()
    size = 1 if cache.cache_dtype.startswith("fp8") else model.dtype.itemsize
    numbers = layers * model.get_total_num_kv_heads() * model.get_head_size() * 2
    return int((cache.kv_cache_size_tokens or 0) * numbers * size)
