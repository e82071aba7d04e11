"""A LoRA adapter as PEFT saves it (https://huggingface.co/docs/peft/developer_guides/checkpoint), read without torch.

Everything is checked before anything is used: a file that is broken, or that asks for what no engine here can do,
is refused with a sentence that says why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from serve.adapters.errors import BadConfig, BadWeights
from serve.adapters.files import CONFIG, WEIGHTS

#: The largest rank that is served; vLLM takes no more either.
MAX_RANK = 512
_MAX_HEADER_BYTES = 16 * 1024 * 1024

#: Keys of the config that change what an adapter computes, and must be at rest: nothing here carries them out.
_UNSERVED = (
    "use_dora",
    "use_qalora",
    "lora_bias",
    "fan_in_fan_out",
    "modules_to_save",
    "layer_replication",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "target_parameters",
    "arrow_config",
    "use_bdlora",
)
#: Ways to begin that take something out of the base weights, so that the adapter fits no base as it is served.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")

_MODULE = re.compile(r"[A-Za-z0-9_]{1,64}(\.[A-Za-z0-9_]{1,64}){0,15}")
_TENSOR = re.compile(r"base_model\.model\.(.+)\.lora_(?:(A|B)\.weight|embedding_(A|B))")
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16: the upper half of a float32
}

N = TypeVar("N", int, float)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """What ``adapter_config.json`` says, as far as it matters here.

    Attributes:
        rank: of modules that ``rank_pattern`` does not name.
        alpha: of modules that ``alpha_pattern`` does not name.
        rank_stabilized: the scale is alpha / sqrt(rank) (https://arxiv.org/abs/2312.03732) and not alpha / rank.
        target_modules: the modules as the config names them; one text where it is a regular expression.
    """

    rank: int
    alpha: float
    rank_stabilized: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    target_modules: tuple[str, ...]

    @property
    def largest_rank(self) -> int:
        """The largest rank of any module."""
        return max([self.rank, *self.rank_pattern.values()])

    def rank_of(self, module: str) -> int:
        """The rank of a module."""
        return _by_pattern(self.rank_pattern, module, self.rank)

    def scale_of(self, module: str) -> float:
        """What a module's product of B and A is multiplied by."""
        rank = self.rank_of(module)
        return _by_pattern(self.alpha_pattern, module, self.alpha) / (
            math.sqrt(rank) if self.rank_stabilized else rank
        )


@dataclass(frozen=True, slots=True)
class LoraModule:
    """The change of one module's weight: ``scale * b @ a``.

    Attributes:
        name: the module in the Hugging Face model, such as ``model.layers.0.self_attn.q_proj``.
        a: shape (rank, inputs). b: shape (outputs, rank).
        embedding: whether the module looks vectors up: its inputs are tokens, its outputs a vector's numbers.
    """

    name: str
    a: Floats
    b: Floats
    scale: float
    embedding: bool


def parse_config(content: bytes) -> PeftConfig:
    """The config in ``content``.

    Raises:
        BadConfig: it is broken, or asks for what cannot be served; names the key.
    """
    try:
        raw = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadConfig(f"{CONFIG} is not valid JSON: {error}") from None
    if not isinstance(raw, dict):
        raise BadConfig(f"{CONFIG} must be a JSON object")
    if raw.get("peft_type") != "LORA":
        raise BadConfig(f"{CONFIG}: peft_type: must be 'LORA'")
    if raw.get("task_type") not in (None, "CAUSAL_LM"):
        raise BadConfig(f"{CONFIG}: task_type: must be 'CAUSAL_LM'")
    for key in _UNSERVED:
        if raw.get(key):
            raise BadConfig(f"{CONFIG}: {key}: cannot be served; train without it")
    if raw.get("bias", "none") != "none":
        raise BadConfig(f"{CONFIG}: bias: must be 'none'; trained biases cannot be served")
    start = raw.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise BadConfig(f"{CONFIG}: init_lora_weights: {start[:40]!r} changes the base; convert the adapter first")
    return PeftConfig(
        rank=_rank(raw.get("r"), "r"),
        alpha=_alpha(raw.get("lora_alpha"), "lora_alpha"),
        rank_stabilized=bool(raw.get("use_rslora")),
        rank_pattern={k: _rank(v, f"rank_pattern.{k}") for k, v in _pattern(raw, "rank_pattern")},
        alpha_pattern={k: _alpha(v, f"alpha_pattern.{k}") for k, v in _pattern(raw, "alpha_pattern")},
        target_modules=_targets(raw.get("target_modules")),
    )


def parse_weights(content: bytes, config: PeftConfig) -> list[LoraModule]:
    """Every module in ``content``, a safetensors file, in the order of their names.

    Raises:
        BadWeights: it is broken, holds something else than pairs of finite matrices, or does not fit the config.
    """
    pairs: dict[tuple[str, bool], dict[str, Floats]] = {}
    for name, values in _tensors(content):
        found = _TENSOR.fullmatch(name)
        if not found or not _MODULE.fullmatch(found[1]):
            raise BadWeights(f"{WEIGHTS}: {name[:120]!r} is no matrix of a LoRA module")
        pairs.setdefault((found[1], found[3] is not None), {})[found[2] or found[3]] = values
    if not pairs:
        raise BadWeights(f"{WEIGHTS} holds no LoRA module")
    return [_module(name, embedding, pairs[name, embedding], config) for name, embedding in sorted(pairs)]


def _module(name: str, embedding: bool, pair: Mapping[str, Floats], config: PeftConfig) -> LoraModule:
    for half in "AB":
        if half not in pair:
            raise BadWeights(f"{WEIGHTS}: {name} has no lora_{half}")
    a, b = pair["A"], pair["B"]
    rank = config.rank_of(name)
    if a.shape[0] != rank or b.shape[1] != rank:
        raise BadWeights(
            f"{WEIGHTS}: {name} has the shapes {a.shape} and {b.shape}; {CONFIG} says that its rank is {rank}"
        )
    return LoraModule(name, a, b, config.scale_of(name), embedding)


def _tensors(content: bytes) -> Iterator[tuple[str, Floats]]:
    from safetensors import SafetensorError, deserialize

    # The library sets a bound of its own to the header, but that one lets 100 MB of JSON in.
    if len(content) < 8 or int.from_bytes(content[:8], "little") > _MAX_HEADER_BYTES:
        raise BadWeights(f"{WEIGHTS} is no safetensors file: it is cut short, or its header is too large")
    try:
        # From memory and not mapped: a file that shrinks under a mapping ends the process.
        tensors = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise BadWeights(f"{WEIGHTS} is no safetensors file: {error}") from None
    for name, tensor in tensors:
        if name.endswith(".base_layer.weight"):
            continue  # PEFT saves the base's own embeddings beside an adapter of them.
        dtype, shape = tensor["dtype"], tuple(tensor["shape"])
        if dtype not in _DTYPES:
            raise BadWeights(f"{WEIGHTS}: {name[:120]!r} has the type {dtype}; allowed: {', '.join(_DTYPES)}")
        if len(shape) != 2 or 0 in shape:
            raise BadWeights(f"{WEIGHTS}: {name[:120]!r} has the shape {shape}; a matrix is needed")
        stored = np.frombuffer(tensor["data"], _DTYPES[dtype]).reshape(shape)
        values = (stored.astype("<u4") << 16).view("<f4") if dtype == "BF16" else stored.astype("<f4")
        if not np.isfinite(values).all():
            raise BadWeights(f"{WEIGHTS}: {name[:120]!r} holds numbers that are not finite")
        yield name, values


def _pattern(raw: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    found = raw.get(key) or {}
    if not isinstance(found, dict):
        raise BadConfig(f"{CONFIG}: {key}: must be an object")
    pairs = [(name.removeprefix("^").removesuffix("$"), value) for name, value in found.items()]
    for name, _ in pairs:
        # PEFT takes regular expressions here. One from a stranger could be made to run for ever.
        if not _MODULE.fullmatch(name):
            raise BadConfig(f"{CONFIG}: {key}: {name[:120]!r} is not the plain name of a module")
    return pairs


def _by_pattern(pattern: Mapping[str, N], module: str, default: N) -> N:
    """The value of the first key that ``module`` is, or ends with after a dot."""
    for key, value in pattern.items():
        if module == key or module.endswith(f".{key}"):
            return value
    return default


def _rank(value: object, key: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_RANK:
        raise BadConfig(f"{CONFIG}: {key}: must be a whole number from 1 to {MAX_RANK}")
    return value


def _alpha(value: object, key: str) -> float:
    if type(value) not in (int, float) or not 0 < float(value) < 1e6:  # type: ignore[arg-type]
        raise BadConfig(f"{CONFIG}: {key}: must be a number above 0 and below 1000000")
    return float(value)  # type: ignore[arg-type]


def _targets(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return tuple(sorted(value))
    raise BadConfig(f"{CONFIG}: target_modules: must name modules")
