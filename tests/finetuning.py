"""What tests of training share: a model of a few thousand numbers, conversations for it, and recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.unit.train.dataset.formats.models import CHATML, chat
from train.events import read_events
from train.finetune.job import Job
from train.finetune.recipe import Recipe
from train.finetune.run import run
from train.run_folder import RunFolder

Json = dict[str, Any]

#: Of the undisturbed run: 24 conversations, four a step, 20 times.
STEPS = 120


def tiny_checkpoint(folder: Path) -> Path:
    """A Llama of random numbers with a tokenizer of bytes, as a checkpoint."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = chat(CHATML).tokenizer
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_chats(path: Path, count: int = 24, *, first: int = 0) -> Path:
    """Conversations in OpenAI's form, no two of them alike; ``first`` is the number of the first house."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is the number of house {place}?"},
                {"role": "assistant", "content": f"It is {place * 7 % 23}."},
            ]
        }
        for place in range(first, first + count)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def write_uneven(path: Path) -> Path:
    """Conversations to judge by, in OpenAI's form: short answers and a long one, no four of them to a batch."""
    said = [" ".join(["word"] * count) for count in (1, 1, 1, 1, 30)]
    rows = [
        {"messages": [{"role": "user", "content": f"{place}?"}, {"role": "assistant", "content": answer}]}
        for place, answer in enumerate(said)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def write_pairs(path: Path, count: int = 12, *, first: int = 0, swapped: int = 0) -> Path:
    """Pairs of a better and a worse answer in OpenAI's form; ``first`` is the first number that they are about.

    Of so many as are ``swapped``, the first ones, the worse answer is said to be the better one.
    """
    rows = []
    for place in range(first, first + count):
        answers = [[{"role": "assistant", "content": said}] for said in (f"Yes, {place} is.", "No idea.")]
        better, worse = reversed(answers) if place < first + swapped else answers
        asked = {"messages": [{"role": "user", "content": f"Is {place} a number?"}]}
        rows.append({"input": asked, "preferred_output": better, "non_preferred_output": worse})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def recipe(base: Path, train: Path, **changes: Any) -> Recipe:
    """A recipe for the tiny model; ``changes`` take the place of its settings."""
    body: Json = {
        "model": {"id": "tiny", "base": str(base)},
        "lora": {"rank": 4, "alpha": 8},
        "data": {"train": [str(train)]},
        "schedule": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01},
        "max_length": 256,
        "seed": 5,
        "checkpoint": {"every": 3, "keep": 2},
        "retries": 1,
    }
    for name, value in changes.items():
        body[name] = {**body[name], **value} if isinstance(body.get(name), dict) else value
    return Recipe.model_validate(body)


def undisturbed_run(
    base: Path, chats: Path, others: str, place: RunFolder, *, workers: int, engine: str = "auto"
) -> Job:
    """A run, carried out; what it drops out at each step hangs on the random states of its workers."""
    long = recipe(
        base,
        chats,
        lora={"dropout": 0.2},
        data={"validation": [others]},
        schedule={"epochs": 20},
        checkpoint={"every": 20},
        tracking={"tensorboard": True},
        workers=workers,
        engine=engine,
    )
    job = Job(long, place)
    run(job, progress=False)
    return job


def folder(runs: Path, name: str) -> RunFolder:
    return RunFolder(str(runs), name)


def curve(job: Job) -> dict[int, float]:
    """The loss of each step as it was noted last."""
    return {event.data["step"]: event.data["loss"] for event in read_events(job.folder) if event.type == "metrics"}
