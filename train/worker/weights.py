"""A base as it is held in memory: one way for what trains it and for what asks it before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from serve.settings.errors import SettingsError
from train.finetune.recipe import Recipe

Dtype = Literal["float32", "bfloat16", "float16"]

#: How transformers, bitsandbytes and Unsloth call 4 bits of QLoRA (https://arxiv.org/abs/2305.14314).
NF4 = "nf4"


@dataclass(frozen=True, slots=True)
class WeightKind:
    """How weights are held.

    Attributes:
        dtype: their type, and that of computing with them.
        quantized: whether the layers' matrices are in 4 bits instead.
    """

    dtype: Dtype
    quantized: bool = False

    @property
    def name(self) -> str:
        """In a word, for reports."""
        return NF4 if self.quantized else self.dtype


def kind_of(recipe: Recipe) -> WeightKind:
    """How this machine holds the base of a recipe, trained or asked: on a GPU as the recipe says, 4 bits for QLoRA;
    without one in float32, which needs no bitsandbytes."""
    import torch

    if not torch.cuda.is_available():
        return WeightKind("float32")
    if recipe.method == "full" and recipe.precision != "bfloat16":
        # What is trained keeps small changes only in float32.
        return WeightKind("float32")
    dtype = recipe.precision
    if dtype == "auto":
        dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return WeightKind(dtype, recipe.method == "qlora")


def load_base(base: Path, kind: WeightKind) -> Any:
    """The checkpoint ``base`` by transformers alone. What is quantized is on the GPU, all else on no device yet.

    Raises:
        SettingsError: it is to be quantized, and bitsandbytes is not there for it.
        OSError, ValueError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = getattr(torch, kind.dtype)
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    if not kind.quantized:
        return AutoModelForCausalLM.from_pretrained(base, **options)
    try:
        quantized = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=NF4,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        return AutoModelForCausalLM.from_pretrained(base, quantization_config=quantized, **options)
    except ImportError as failure:
        said = next(iter(str(failure).splitlines()), type(failure).__name__)
        raise SettingsError(
            f"4 bits need bitsandbytes, which scripts/setup.sh train-gpu installs: {said}"
        ) from failure


def load_to_ask(base: Path, kind: WeightKind) -> Any:
    """The same on this machine's device, to answer and to be scored; an adapter that PEFT puts on it goes there, too.

    Raises:
        SettingsError, OSError, ValueError: as ``load_base``.
    """
    import torch

    model = load_base(base, kind).eval()
    # What is quantized cannot be moved, and need not be.
    return model if kind.quantized else model.to("cuda" if torch.cuda.is_available() else "cpu")
