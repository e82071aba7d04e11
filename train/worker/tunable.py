"""The model that is trained: by Unsloth, or by PEFT alone where Unsloth cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.checkpoints import Engine
from train.finetune.recipe import Recipe
from train.worker import group
from train.worker.weights import kind_of, load_base


class EngineRefused(Exception):
    """No engine that the recipe allows can do it; the message is one line and says why."""


@dataclass(frozen=True)
class Tunable:
    """A model with its tokenizer.

    Attributes:
        engine: what it was loaded with.
        trained: how many of its numbers are trained.
    """

    model: Any
    tokenizer: Any
    engine: Engine
    trained: int


def load_tunable(recipe: Recipe, base: Path, tell: Callable[[str], None]) -> Tunable:
    """Load the checkpoint ``base`` and put on it what is trained; all workers of a run by the same engine.

    Args:
        tell: is told where Unsloth refuses, and why.

    Raises:
        EngineRefused: the recipe insists on Unsloth, or wants of a processor what only Unsloth makes possible there.
    """
    refused = _refused(recipe)
    if recipe.engine == "peft":
        return _by_peft(recipe, base)
    refused = _anywhere(refused)
    if refused is None:
        made = None
        try:
            made = _by_unsloth(recipe, base)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the model may do without Unsloth
            refused = next(iter(str(failure).splitlines()), type(failure).__name__)
        refused = _anywhere(refused)
        if made is not None and refused is None:
            return made
        # The memory is needed for the other one.
        del made
    if recipe.engine == "unsloth":
        raise EngineRefused(f"Unsloth cannot train this model: {refused}")
    tell(f"trained by PEFT without Unsloth, which is slower on GPUs and takes more memory: {refused}")
    return _by_peft(recipe, base)


def _anywhere(refused: str | None) -> str | None:
    """Why one of the workers cannot, the first that cannot; none where all can. Their kernels would differ."""
    found = group.from_all(refused)
    rank = next((rank for rank, reason in enumerate(found) if reason is not None), None)
    if rank is None or len(found) == 1:
        return refused
    return f"worker {rank}: {found[rank]}"


def _refused(recipe: Recipe) -> str | None:
    """Why Unsloth is not asked at all; none where it is."""
    import torch

    pairs_by_processor = recipe.objective == "dpo" and not torch.cuda.is_available()
    if recipe.engine == "peft" and not pairs_by_processor:
        return "the recipe wants PEFT"
    hide_vllm()
    try:
        # Before transformers and trl are used: it changes them.
        import unsloth  # noqa: F401
    except Exception as failure:
        reason = f"it cannot be imported: {next(iter(str(failure).splitlines()), type(failure).__name__)}"
        if pairs_by_processor:
            # TRL computes with kernels of GPUs; Unsloth puts others in their place.
            raise EngineRefused(f"learning from pairs on a processor needs Unsloth, and {reason}") from failure
        return reason
    return "its backend for processors learns from answers only" if pairs_by_processor else None


def hide_vllm() -> None:
    """Let vLLM be absent to those in this process who ask. Unsloth would load it where it is installed, which takes
    seconds and is for what nobody asks for here, and a build of vLLM for other processors would end the process."""
    sys.modules.setdefault("vllm", None)  # type: ignore[arg-type]


def _by_unsloth(recipe: Recipe, base: Path) -> Tunable:
    import torch
    from unsloth import FastLanguageModel

    kind = kind_of(recipe)
    saves_memory = "unsloth" if torch.cuda.is_available() else False
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=str(base),
        max_seq_length=recipe.max_length,
        dtype=getattr(torch, kind.dtype),
        load_in_4bit=recipe.method == "qlora",
        full_finetuning=recipe.method == "full",
        use_gradient_checkpointing=saves_memory,
        local_files_only=True,
    )
    if recipe.method != "full":
        model = FastLanguageModel.get_peft_model(
            model,
            r=recipe.lora.rank,
            lora_alpha=recipe.lora.alpha,
            lora_dropout=recipe.lora.dropout,
            target_modules=recipe.lora.target_modules,
            bias="none",
            random_state=_seed(recipe),
            use_gradient_checkpointing=saves_memory,
        )
    return _tunable(model, tokenizer, "unsloth")


def _by_peft(recipe: Recipe, base: Path) -> Tunable:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoTokenizer, set_seed

    set_seed(_seed(recipe))
    kind = kind_of(recipe)
    if recipe.method == "qlora" and not kind.quantized:
        raise EngineRefused("method qlora needs a GPU, and torch sees none on this node")
    model = load_base(base, kind)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    model.config.use_cache = False
    if recipe.method == "qlora":
        model = prepare_model_for_kbit_training(model)
    if recipe.method != "full":
        lora = LoraConfig(
            r=recipe.lora.rank,
            lora_alpha=recipe.lora.alpha,
            lora_dropout=recipe.lora.dropout,
            target_modules=recipe.lora.target_modules,
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, lora)
    return _tunable(model, tokenizer, "peft")


def _tunable(model: Any, tokenizer: Any, engine: Engine) -> Tunable:
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return Tunable(model, tokenizer, engine, trained)


def _seed(recipe: Recipe) -> int:
    """The recipe's seed as numpy takes one."""
    return recipe.seed % 2**32
