"""Replay: what the base itself answers to general prompts, learned beside the data so that it is not forgotten.

The base answers once; its answers are kept on this node for other runs with the same base, prompts and settings. An
answer that did not come to its end by itself is left out: the model would learn to stop in the middle of a sentence.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from serve.models.manifest import write_atomically
from serve.settings.environment import Environment
from serve.settings.errors import SettingsError
from train.dataset.rows import Message, Provenance, Row
from train.events import EventLog
from train.finetune.base import base_checkpoint
from train.finetune.job import Job
from train.finetune.recipe import Recipe
from train.finetune.waiting import wait_until_free
from train.finetune.wanted import PauseWanted, wants_pause
from train.run_folder import RunFolder
from train.worker.processors import use_processors
from train.worker.weights import kind_of, load_to_ask

Json = dict[str, Any]

_LOOK_SECONDS = 1.0


def load_prompts(path: str) -> list[str]:
    """The prompts of a file, one a line; empty lines and those that begin with # are passed over.

    Raises:
        SettingsError: it cannot be read, or has none.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise SettingsError(f"data.replay.prompts: {path} cannot be read ({reason})") from None
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not prompts:
        raise SettingsError(f"data.replay.prompts: {path} has no prompts")
    return prompts


def replayed(job: Job, base: Path) -> list[Row]:
    """The rows that are learned beside the data; none where the recipe wants none.

    The first time, Ray runs the base, with what one worker takes of the cluster.

    Raises:
        SettingsError: the prompts cannot be read.
        PauseWanted: somebody wants it before they are all answered.
        RayUnreachable
    """
    import ray

    recipe, replay = job.recipe, job.recipe.data.replay
    if replay is None:
        return []
    prompts = load_prompts(replay.prompts)
    kept = Environment.read().home / "replay" / f"{_digest(recipe, base, prompts)}.json"
    if kept.is_file():
        answers: list[str | None] = orjson.loads(kept.read_bytes())
    else:
        wait_until_free(job)
        # Its process is nicer than others, and holds a model: nobody gets it after this.
        task = ray.remote(max_calls=1)(answer).options(
            num_cpus=recipe.resources.cpus, num_gpus=recipe.resources.gpus, max_retries=recipe.retries
        )
        answers = _awaited(task.remote(job.to_config(), prompts), job.folder)
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(kept, orjson.dumps(answers).decode())
    pairs = [(prompt, said) for prompt, said in zip(prompts, answers, strict=True) if said]
    return list(rows_of_pairs(pairs, replay.weight, recipe.seed))


def _awaited(task: Any, folder: RunFolder) -> list[str | None]:  # noqa: ANN401 - Ray's reference
    """What the base answers; Ray may have to wait for what the task takes, and somebody want something else.

    Raises:
        PauseWanted: somebody wants it; nothing of the answers is kept.
    """
    import ray

    while not ray.wait([task], timeout=_LOOK_SECONDS)[0]:
        if wants_pause(folder):
            ray.cancel(task, force=True)
            raise PauseWanted
    found: list[str | None] = ray.get(task)
    return found


def answer(config: Json, prompts: Sequence[str]) -> list[str | None]:
    """What the base answers to each prompt, greedily; none where it does not come to an end.

    Args:
        config: the run (``train.finetune.job.Job.to_config``), whose events tell how far this is.
    """
    import torch
    from transformers import AutoTokenizer

    job = Job.from_config(config)
    recipe, replay, events = job.recipe, job.recipe.data.replay, EventLog(job.folder)
    assert replay is not None
    base = base_checkpoint(recipe.model, progress=False).path
    use_processors(recipe.resources)
    model = load_to_ask(base, kind_of(recipe))
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    texts = [_asked(tokenizer, prompt, recipe) for prompt in prompts]
    # Prompts of a like length together, so that little is padding.
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    answers: list[str | None] = [None] * len(texts)
    for begin in range(0, len(order), replay.batch_size):
        places = order[begin : begin + replay.batch_size]
        batch = tokenizer(
            [texts[place] for place in places], return_tensors="pt", padding=True, add_special_tokens=False
        ).to(model.device)
        with torch.inference_mode():
            made = model.generate(
                **batch, max_new_tokens=replay.max_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        ends = _ends(model, tokenizer)
        for place, ids in zip(places, made[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
            end = next((number for number, token in enumerate(ids) if token in ends), None)
            answers[place] = None if end is None else tokenizer.decode(ids[:end]).strip()
        done = begin + len(places)
        events.write("message", f"replay: the base has answered {done} of {len(order)} prompts", {"answered": done})
    return answers


def _asked(tokenizer: object, prompt: str, recipe: Recipe) -> str:
    messages = [{"role": "user", "content": prompt}]
    if recipe.data.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": recipe.data.system_prompt})
    text: str = tokenizer.apply_chat_template(  # type: ignore[attr-defined]
        messages, tokenize=False, add_generation_prompt=True, **recipe.data.variables
    )
    return text


def _ends(model: object, tokenizer: object) -> set[int]:
    """The tokens that end an answer."""
    configured = model.generation_config.eos_token_id  # type: ignore[attr-defined]
    known = configured if isinstance(configured, list) else [configured]
    return {token for token in [*known, tokenizer.eos_token_id] if token is not None}  # type: ignore[attr-defined]


def rows_of_pairs(pairs: Sequence[tuple[str, str]], weight: float, seed: int) -> Iterator[Row]:
    """Each answer as often as the weight says; of a broken part, a share of the answers that the seed chooses."""
    whole = int(weight)
    shuffled = random.Random(seed).sample(pairs, len(pairs))  # noqa: S311 - a choice, not a secret
    for copy in range(whole + 1):
        chosen = pairs if copy < whole else shuffled[: round((weight - whole) * len(pairs))]
        for number, (prompt, said) in enumerate(chosen):
            yield Row(
                id=f"replay-{copy}-{number}",
                source="groupqwen",
                messages=(Message(role="user", content=prompt), Message(role="assistant", content=said)),
                provenance=Provenance(),
            )


def _digest(recipe: Recipe, base: Path, prompts: Sequence[str]) -> str:
    """Names answers by everything that they depend on."""
    assert recipe.data.replay is not None
    files = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in sorted(base.iterdir())]
    said = [files, list(prompts), recipe.data.replay.max_tokens, recipe.data.system_prompt, recipe.data.variables]
    if recipe.method == "qlora":
        said.append("in 4 bits")
    return hashlib.sha256(orjson.dumps([str(base.resolve()), *said], option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
