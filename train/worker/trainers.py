"""TRL's trainers, set up as a recipe says, on data that is in tokens already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainingArguments
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from train.dataset.formats import IGNORED, Prepared
from train.finetune.recipe import Recipe
from train.worker import group
from train.worker.attention import keep_apart
from train.worker.batches import Batches, filled, load_rows
from train.worker.judged import ValidationLoss
from train.worker.tunable import Tunable


class _Judging:
    """A trainer whose ``eval_loss`` is a mean over answer tokens, or pairs; its own would be one over batches, in
    which an answer of a word weighs as much as one of a page, and a batch of one pair as much as a full one."""

    _judged: ValidationLoss

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        self._judged = ValidationLoss()
        found = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)  # type: ignore[misc]
        found.metrics[f"{metric_key_prefix}_loss"] = self._judged.mean()
        return found

    def prediction_step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, None, None]:
        import torch

        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self._loss_of(model, inputs).detach().mean()
        self._judge(float(loss), inputs)
        return loss, None, None


class PairTrainer(_Judging, DPOTrainer):  # type: ignore[misc]
    """DPO on pairs that are in tokens already, with our own borders of prompt and answer."""

    def _prepare_dataset(self, dataset: Any, *args: object, **kwargs: object) -> Any:
        return dataset

    def _loss_of(self, model: Any, inputs: Any) -> Any:
        return self.compute_loss(model, inputs)

    def _judge(self, loss: float, inputs: Any) -> None:
        # The first half of a batch has the better answers, the second half the worse ones.
        answered = inputs["completion_mask"].bool().any(dim=1).view(2, -1).any(dim=0)
        pairs = int(answered.sum())
        self._judged.add_pairs(loss, pairs, len(answered) - pairs)


class _AnswerJudging(_Judging):
    """Judges by answer tokens."""

    def _loss_of(self: Any, model: Any, inputs: Any) -> Any:
        # With a cache, sequences of a pack would see each other. Not told how many tokens there are, it gives the
        # mean over those of this batch, whatever the trainer.
        return self.compute_loss(model, {**inputs, "use_cache": False})

    def _judge(self, loss: float, inputs: Any) -> None:
        self._judged.add(loss, int((inputs["labels"][:, 1:] != IGNORED).sum()))


class AnswerTrainer(_AnswerJudging, Trainer):  # type: ignore[misc]
    """Learns from answers."""


class UnslothTrainer(_AnswerJudging, SFTTrainer):  # type: ignore[misc]
    """Learns from answers by Unsloth."""


def make_trainer(recipe: Recipe, tunable: Tunable, data: Prepared, scratch: Path, watch: TrainerCallback) -> Any:
    """The trainer of one worker.

    Args:
        data: prepared, and on this node.
        scratch: where rows are mapped from, and checkpoints written for ``watch`` to take over.
    """
    rows = {split: load_rows(path, recipe.objective, scratch) for split, path in data.splits.items()}
    given = {
        "model": tunable.model,
        "processing_class": tunable.tokenizer,
        "train_dataset": rows["train"],
        "eval_dataset": None,
        "callbacks": [watch],
    }
    if "validation" in rows:
        given["eval_dataset"] = filled(rows["validation"], recipe.objective, group.size() * recipe.micro_batch)
    # This sets the model's attention.
    apart = recipe.objective == "sft" and keep_apart(tunable.model)
    joined = apart or recipe.packing
    settings = _settings(recipe, scratch, joined=joined)
    if recipe.objective == "dpo":
        trainer = PairTrainer(args=DPOConfig(**settings, beta=recipe.beta, max_length=recipe.max_length), **given)
    else:
        batches = Batches(tunable.tokenizer.pad_token_id, joined)
        if tunable.engine == "unsloth":
            args = SFTConfig(**settings, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
            trainer = UnslothTrainer(args=args, data_collator=batches, **given)
        else:
            # TRL's own computes with kernels of GPUs, which Unsloth replaces on processors.
            trainer = AnswerTrainer(args=TrainingArguments(**settings), data_collator=batches, **given)
    for quiet in ("PrinterCallback", "ProgressCallback"):
        _remove(trainer, quiet)
    return trainer


def _settings(recipe: Recipe, scratch: Path, *, joined: bool) -> dict[str, Any]:
    """What both kinds of trainers are told. Logs, evaluations and checkpoints are the callback's to ask for."""
    import torch

    schedule = recipe.schedule
    on_gpu = torch.cuda.is_available()
    half = _half(recipe, on_gpu)
    return {
        "output_dir": str(scratch),
        "per_device_train_batch_size": recipe.micro_batch,
        "per_device_eval_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": recipe.accumulation,
        "num_train_epochs": schedule.epochs,
        "max_steps": schedule.max_steps or -1,
        "learning_rate": schedule.learning_rate,
        "lr_scheduler_type": schedule.scheduler,
        # Below 1, it is a share of the steps.
        "warmup_steps": schedule.warmup,
        "weight_decay": schedule.weight_decay,
        "max_grad_norm": schedule.max_grad_norm,
        "optim": "adamw_8bit" if recipe.method == "qlora" else "adamw_torch",
        "seed": recipe.seed % 2**32,
        "data_seed": recipe.seed % 2**32,
        "bf16": half == "bfloat16",
        "fp16": half == "float16",
        "use_cpu": not on_gpu,
        "gradient_checkpointing": False,
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": on_gpu,
        "remove_unused_columns": False,
        "prediction_loss_only": True,
        # Without a mask, the token that else pads is not counted, and chats end with it.
        "include_num_input_tokens_seen": "all" if joined else "non_padding",
        "logging_strategy": "no",
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _half(recipe: Recipe, on_gpu: bool) -> str | None:
    """The type of 16 bits that is computed in, if any: on processors only where the recipe says so."""
    import torch

    if recipe.precision != "auto":
        return None if recipe.precision == "float32" else recipe.precision
    if not on_gpu:
        return None
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def _remove(trainer: Any, name: str) -> None:
    """Take a callback away that writes to the terminal: what it tells is in the events."""
    for callback in list(trainer.callback_handler.callbacks):
        if type(callback).__name__ == name:
            trainer.remove_callback(callback)
