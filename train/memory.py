"""What a worker of a run takes in memory, and an evaluation, estimated by the model's shape and the recipe.

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

#: Python, torch, transformers, Ray; on a GPU, its context and the libraries' work space.
_PROCESS_BYTES = 1024**3
_FLOAT_BYTES = 4
_HALF_BYTES = 2
#: Moments of AdamW (https://arxiv.org/abs/1711.05101) of a number that is trained.
_MOMENTS = 2
#: Of a moment in 8 bits (https://arxiv.org/abs/2110.02861).
_SMALL_MOMENT_BYTES = 1
#: A weight in NF4 with its share of the constants, which are quantized themselves: 4.127 bits (section 3 of
#: https://arxiv.org/abs/2305.14314).
_QUANTIZED_BYTES = 4.127 / 8
#: Of the logits, their softmax and their gradient, in float32.
_LOGITS_BYTES = 3 * _FLOAT_BYTES
#: Unsloth's kernels for GPUs make logits by parts and keep none; a part takes what is free, down to this.
_LOGITS_PART_BYTES = 1024**3
#: Tokens of a batch of an evaluation at most, padding and what is to be written included, unless one sequence has
#: more: what is kept of them is bounded then, however long sequences are and however many may be asked at once.
TOKENS_AT_ONCE = 8192
#: Of the logits of such a batch, unless those of one sequence are more; they are the most of it where vocabularies
#: are large.
LOGITS_BYTES = 1024**3


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
    def linear(self) -> int:
        """The weights of the layers' matrices, which QLoRA quantizes."""
        return self.layers * sum(width_in * width_out for width_in, width_out in self._sides().values())

    @property
    def parameters(self) -> int:
        """All weights, but for those of norms."""
        return self.linear + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter(self, rank: int, modules: list[str]) -> int:
        """The weights of a LoRA adapter of these layers."""
        sides = self._sides()
        return self.layers * rank * sum(sum(sides[name]) for name in modules if name in sides)

    def kept_per_token(self, *, checkpointing: bool) -> int:
        """Numbers that the way back needs of one token.

        Args:
            checkpointing: only what goes into each layer is kept (https://arxiv.org/abs/1604.06174), and of the layer
                that is computed again what goes into each of its parts; else the latter of all layers.
        """
        layer = self.computed_per_token
        return self.layers * self.hidden + layer if checkpointing else self.layers * layer

    @property
    def computed_per_token(self) -> int:
        """Numbers that go into the parts of one layer, of one token."""
        return 6 * self.hidden + 2 * (self.queries + self.keys) + 4 * self.inner

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
    # A pair is two sequences.
    copies = 2 if recipe.objective == "dpo" else 1
    tokens = copies * recipe.micro_batch * (recipe.max_length if recipe.packing else min(recipe.max_length, longest))
    return round(
        _PROCESS_BYTES
        + weights_bytes(recipe, shape)
        + trained_bytes(recipe, shape)
        + kept_bytes(recipe, shape, tokens)
        + logits_bytes(recipe, shape, tokens)
    )


def evaluation_bytes(recipe: Recipe, shape: Shape, batch_size: int, longest: int | None = None) -> int:
    """Bytes that ``train.evaluate`` holds at its fullest, with the weights as training has them; on a GPU, those of
    the GPU.

    Args:
        batch_size: of its settings.
        longest: tokens of the longest sequence; by default the recipe's.
    """
    length = min(recipe.max_length, longest or recipe.max_length)
    tokens = max(length, min(batch_size * length, TOKENS_AT_ONCE))
    number = _weight_bytes(recipe)
    logits = max(min(tokens * shape.vocabulary * number, LOGITS_BYTES), length * shape.vocabulary * number)
    adapter = shape.adapter(recipe.lora.rank, recipe.lora.target_modules) * _FLOAT_BYTES
    # Nothing is kept for a way back: keys and values of what was read, and what one layer computes.
    cached = tokens * (shape.layers * 2 * shape.keys + shape.computed_per_token) * number
    return round(_PROCESS_BYTES + weights_bytes(recipe, shape) + adapter + cached + logits)


def weights_bytes(recipe: Recipe, shape: Shape) -> float:
    """The model itself: all of it in the type that it is loaded in, but for the matrices that QLoRA quantizes."""
    number = _weight_bytes(recipe)
    if recipe.method == "qlora":
        return shape.linear * _QUANTIZED_BYTES + (shape.parameters - shape.linear) * number
    return float(shape.parameters * number)


def trained_bytes(recipe: Recipe, shape: Shape) -> int:
    """What is trained, beside the model itself: gradients and the optimizer's moments; of an adapter, its weights.

    Of all weights, with those themselves, these are the 16 bytes a weight of section 3.1 of
    https://arxiv.org/abs/1910.02054, whether a half copy is kept beside the moments or, as here, made on the way.
    """
    if recipe.method == "full":
        return shape.parameters * (1 + _MOMENTS) * _weight_bytes(recipe)
    moment = _SMALL_MOMENT_BYTES if recipe.method == "qlora" else _FLOAT_BYTES
    trained = shape.adapter(recipe.lora.rank, recipe.lora.target_modules)
    # Adapters are in float32, whatever the model is in.
    return trained * (2 * _FLOAT_BYTES + _MOMENTS * moment)


def kept_bytes(recipe: Recipe, shape: Shape, tokens: int) -> int:
    """What the way back needs of a batch of so many tokens.

    With checkpointing that is the 2 s b h L bytes of section 5 of https://arxiv.org/abs/2205.05198, and a layer more.
    """
    on_gpu = recipe.resources.gpus > 0
    # Unsloth does it on GPUs, and PEFT where it makes a quantized model fit to be trained.
    checkpointing = on_gpu and (recipe.engine != "peft" or recipe.method == "qlora")
    return tokens * shape.kept_per_token(checkpointing=checkpointing) * _computed_bytes(recipe)


def logits_bytes(recipe: Recipe, shape: Shape, tokens: int) -> int:
    """The logits of a batch, and what becomes of them."""
    found = tokens * shape.vocabulary * _LOGITS_BYTES
    by_parts = recipe.resources.gpus > 0 and recipe.engine != "peft" and recipe.objective == "sft"
    return min(found, _LOGITS_PART_BYTES) if by_parts else found


def _weight_bytes(recipe: Recipe) -> int:
    """Of a weight as it is loaded: half on GPUs, but for all weights that are trained; float32 on processors."""
    if not recipe.resources.gpus or recipe.precision == "float32":
        return _FLOAT_BYTES
    return _FLOAT_BYTES if recipe.method == "full" and recipe.precision != "bfloat16" else _HALF_BYTES


def _computed_bytes(recipe: Recipe) -> int:
    """Of a number that is computed on the way."""
    if recipe.precision == "auto":
        return _HALF_BYTES if recipe.resources.gpus else _FLOAT_BYTES
    return _FLOAT_BYTES if recipe.precision == "float32" else _HALF_BYTES


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
