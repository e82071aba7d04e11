"""What a worker of a run takes in memory, estimated before it starts by the model's shape and the recipe.

Good to some tens of percent for decoders of the Llama and Qwen families; others are not estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from serve.models.gguf import NotGguf, read_header
from serve.models.place import Place
from serve.settings.weights import FolderSettings, Weights
from train.finetune.recipe import Recipe

#: Python, torch, transformers, Ray.
_PROCESS_BYTES = 1024**3
#: Numbers of AdamW (https://arxiv.org/abs/1711.05101) for one that is trained: itself, its gradient, two moments.
_OPTIMIZER_NUMBERS = 4
#: Bytes of one weight in 4 bits, with its share of the scales.
_QUANTIZED_BYTES = 0.6
_FLOAT_BYTES = 4
_HALF_BYTES = 2
#: Of the logits, their softmax and their gradient, in float32.
_LOGITS_BYTES = 3 * _FLOAT_BYTES


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder.

    Attributes:
        hidden: width of a token's vector. queries, keys: of all heads together. inner: of the feed-forward part.
        tied: whether the input's and the output's embeddings are one.
    """

    layers: int
    hidden: int
    queries: int
    keys: int
    inner: int
    vocabulary: int
    tied: bool = True

    @property
    def parameters(self) -> int:
        """All weights, but for those of norms."""
        sides = self._sides().values()
        block = sum(width_in * width_out for width_in, width_out in sides)
        return self.layers * block + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter(self, rank: int, modules: list[str]) -> int:
        """The weights of a LoRA adapter of these layers."""
        sides = self._sides()
        return self.layers * rank * sum(sum(sides[name]) for name in modules if name in sides)

    @property
    def kept_per_token(self) -> int:
        """Numbers that the way back needs of one token: what goes into each part of each layer."""
        return self.layers * (6 * self.hidden + 2 * (self.queries + self.keys) + 4 * self.inner)

    def _sides(self) -> dict[str, tuple[int, int]]:
        """The linear layers of a block: width in, width out."""
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.inner),
            "up_proj": (self.hidden, self.inner),
            "down_proj": (self.inner, self.hidden),
        }


def worker_bytes(recipe: Recipe, shape: Shape, longest: int) -> int:
    """Bytes that one worker holds at its fullest; on a GPU, those of the GPU.

    Args:
        longest: tokens of the longest sequence of the data.
    """
    half = recipe.precision in ("bfloat16", "float16") or (recipe.precision == "auto" and recipe.resources.gpus > 0)
    number = _HALF_BYTES if half else _FLOAT_BYTES
    weights = shape.parameters * (_QUANTIZED_BYTES if recipe.method == "qlora" else number)
    full = recipe.method == "full"
    trained = shape.parameters if full else shape.adapter(recipe.lora.rank, recipe.lora.target_modules)
    # A pair is two sequences, and each goes through the model twice: as it is, and as it was.
    copies = 2 if recipe.objective == "dpo" else 1
    tokens = copies * recipe.micro_batch * (recipe.max_length if recipe.packing else min(recipe.max_length, longest))
    kept = tokens * (shape.kept_per_token * number + shape.vocabulary * _LOGITS_BYTES)
    return round(_PROCESS_BYTES + weights + trained * _OPTIMIZER_NUMBERS * _FLOAT_BYTES + kept)


def shape_of(recipe: Recipe) -> Shape | None:
    """The shape of a recipe's model; none where its files are not on this node, or it is of another family."""
    for path in _places(recipe.model.id, recipe.model.base):
        try:
            if (path / "config.json").is_file():
                return _of_config(orjson.loads((path / "config.json").read_bytes()))
            if path.is_file():
                return _of_gguf(path)
        except (OSError, NotGguf, orjson.JSONDecodeError, KeyError, TypeError):
            continue
    return None


def _places(model: str, base: str | Weights) -> list[Path]:
    """Where the base, or the file that it is made from, may lie on this node."""
    if isinstance(base, str):
        return [Path(base)]
    names = [base.name]
    if isinstance(base, FolderSettings):
        names += [source.gguf.name for source in base.sources if source.gguf is not None]
    own = [Path(source.path).expanduser() for source in base.sources if source.path is not None]
    return [*own, *(Place.of(model, name, None).path for name in names)]


def _of_config(config: dict[str, Any]) -> Shape | None:
    """The shape in a checkpoint's ``config.json``."""
    if "num_experts" in config or "num_local_experts" in config:
        return None
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        queries=heads * width,
        keys=(config.get("num_key_value_heads") or heads) * width,
        inner=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings")),
    )


def _of_gguf(path: Path) -> Shape | None:
    """The shape in a GGUF file's header."""
    header = read_header(path)
    heads, hidden = header.number("attention.head_count"), header.number("embedding_length")
    if not heads or not hidden or header.number("expert_count"):
        return None
    width = header.number("attention.key_length", hidden // heads)
    return Shape(
        layers=header.number("block_count"),
        hidden=hidden,
        queries=heads * width,
        keys=header.number("attention.head_count_kv", heads) * width,
        inner=header.number("feed_forward_length"),
        vocabulary=header.lengths.get("tokenizer.ggml.tokens", 0),
    )
