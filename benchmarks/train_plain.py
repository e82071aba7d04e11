"""The rival of Ray Train: Unsloth and TRL as their own examples use them, in one process, with a recipe's settings.

It trains on the same tokens, and notes its steps as runs do.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

from train.events import EventLog
from train.finetune.base import base_checkpoint
from train.finetune.data import data_on_this_node, prepare_data
from train.finetune.recipe import load_recipe
from train.run_folder import RunFolder
from train.worker.tunable import hide_vllm


def main() -> None:
    """Train; the arguments are those of ``python -m train.finetune``."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--config", "--run", "--storage"):
        parser.add_argument(name, required=True)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    recipe = load_recipe(options.config, options.set)
    folder = RunFolder(options.storage, options.run)
    folder.make()
    hide_vllm()

    import torch
    from unsloth import FastLanguageModel

    torch.set_num_threads(recipe.resources.compute_threads)
    base = base_checkpoint(recipe.model, progress=False)
    prepare_data(recipe, folder, base.path, [])
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(base.path),
        max_seq_length=recipe.max_length,
        dtype=torch.float32,
        load_in_4bit=False,
        use_gradient_checkpointing=False,
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        target_modules=recipe.lora.target_modules,
        use_gradient_checkpointing=False,
        random_state=recipe.seed,
    )

    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    events = EventLog(folder)

    class Note(TrainerCallback):  # type: ignore[misc]
        """Notes each step as a run does."""

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:  # noqa: ANN401
            if "loss" in logs:
                data = {"step": state.global_step, "loss": logs["loss"], "tokens": int(state.num_input_tokens_seen)}
                events.write("metrics", f"step {state.global_step}", data)

    with data_on_this_node(folder) as data, tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_parquet(str(data.splits["train"]), cache_dir=scratch).select_columns(
                ["input_ids", "labels"]
            ),
            args=SFTConfig(
                output_dir=scratch,
                per_device_train_batch_size=recipe.schedule.batch_size,
                max_steps=recipe.schedule.max_steps or -1,
                learning_rate=recipe.schedule.learning_rate,
                lr_scheduler_type=recipe.schedule.scheduler,
                warmup_steps=recipe.schedule.warmup,
                max_grad_norm=recipe.schedule.max_grad_norm,
                max_length=recipe.max_length,
                gradient_checkpointing=False,
                bf16=False,
                seed=recipe.seed,
                data_seed=recipe.seed,
                include_num_input_tokens_seen="non_padding",
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            callbacks=[Note()],
        )
        trainer.train()


if __name__ == "__main__":
    main()
