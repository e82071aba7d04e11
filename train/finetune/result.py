"""What a run leaves: the adapter, or all weights, taken out of a checkpoint, and what they were made for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import orjson

from train.checkpoints import CheckpointError, Checkpoints
from train.dataset.formats import Chat
from train.finetune.base import BaseCheckpoint
from train.finetune.job import Job
from train.run_folder import ADAPTER

Json = dict[str, Any]

#: What the result was made for, beside its files.
MADE_FOR = "groupqwen.json"
#: The folder of all weights, where these were trained.
MODEL = "model"

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: What a checkpoint has to go on with, and a model does not need.
_TRAINING_STATE = ("optimizer", "scheduler", "scaler", "rng_state", "trainer_state", "manifest")


def take_result(job: Job, base: BaseCheckpoint, fingerprint: str) -> Json:
    """Copy the result out of its checkpoint: of the best one where the run may stop early, else of the last.

    Args:
        fingerprint: of the data set.

    Returns:
        Which folder it is in (``adapter`` or ``model``) and of which step it is.

    Raises:
        CheckpointError: there is no checkpoint, or it is not whole.
    """
    checkpoints = Checkpoints(job.folder)
    steps = checkpoints.steps()
    if not steps:
        raise CheckpointError(f"{job.folder.address}: the run has no checkpoint to take a result from")
    best = checkpoints.best() if job.recipe.schedule.early_stop is not None else None
    step = steps[-1] if best is None else best.step
    full = job.recipe.method == "full"
    target = MODEL if full else ADAPTER
    job.folder.remove(target)
    with checkpoints.opened(step) as folder:
        if full:
            names = [one.name for one in sorted(folder.iterdir()) if not one.name.startswith(_TRAINING_STATE)]
        else:
            names = [_WEIGHTS]
            job.folder.write(f"{target}/{_CONFIG}", _config(folder / _CONFIG, job.recipe.model.id))
        for name in names:
            job.folder.put(folder / name, f"{target}/{name}")
        job.folder.write_json(f"{target}/{MADE_FOR}", _made_for(job, base, fingerprint))
    return {target: target, "result_step": step}


def _config(path: Path, model: str) -> bytes:
    """The adapter's config with the model's id in place of a path of this machine."""
    config = orjson.loads(path.read_bytes())
    config["base_model_name_or_path"] = model
    return json.dumps(config, indent=2, sort_keys=True).encode()


def _made_for(job: Job, base: BaseCheckpoint, fingerprint: str) -> Json:
    chat = Chat.load(str(base.path))
    template = str(chat.tokenizer.chat_template)
    return {
        "base": {
            "model": job.recipe.model.id,
            "weights_sha256": base.weights_sha256,
            "tokenizer_sha256": hashlib.sha256(chat.tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
            "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        },
        "training_data": fingerprint,
    }
