"""Runs on a real local Ray, with a tiny model: what they leave, by one worker and two, from answers and pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from serve.adapters.peft import parse_config, parse_weights
from serve.settings.errors import SettingsError
from tests.finetuning import STEPS, curve, folder, recipe, write_pairs
from train.checkpoints import Checkpoints
from train.dataset.formats import IGNORED
from train.events import read_events
from train.finetune.data import DataError, data_on_this_node
from train.finetune.job import Job
from train.finetune.run import run
from train.worker.batches import load_rows


def test_a_run_leaves_an_adapter_curves_and_a_result(undisturbed: Job) -> None:
    here = Path(undisturbed.folder.address)
    result = json.loads((here / "result.json").read_text(encoding="utf-8"))
    assert result["state"] == "succeeded"
    assert (result["steps"], result["epochs"], result["adapter"]) == (STEPS, 20.0, "adapter")
    assert result["trained_tokens"] > 0
    assert result["peak_memory_bytes"] > 0
    losses = curve(undisturbed)
    assert sorted(losses) == list(range(1, STEPS + 1))
    assert losses[STEPS] < losses[1] - 0.5
    config = parse_config((here / "adapter" / "adapter_config.json").read_bytes())
    assert parse_weights((here / "adapter" / "adapter_model.safetensors").read_bytes(), config)
    assert str(here) not in (here / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
    made_for = json.loads((here / "adapter" / "groupqwen.json").read_text(encoding="utf-8"))
    assert made_for["base"]["model"] == "tiny"
    assert len(made_for["training_data"]) == len(made_for["base"]["chat_template_sha256"]) == 64
    assert (here / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((here / "tensorboard").glob("events.out.tfevents.*"))
    assert not (here / "ray").exists()


def test_its_checkpoints_are_whole_and_judged(undisturbed: Job) -> None:
    checkpoints = Checkpoints(undisturbed.folder)
    found = [checkpoints.verify(step) for step in checkpoints.steps()]
    assert found[-1].step == STEPS
    assert len(found) <= 3
    assert all(one.eval_loss is not None for one in found)
    assert {
        "adapter_model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
    } <= set(found[-1].files)


def test_its_checkpoints_say_what_trained(undisturbed: Job) -> None:
    [manifest, *_] = Checkpoints(undisturbed.folder).list()
    loaded = [event.data for event in read_events(undisturbed.folder) if "engine" in event.data]
    assert manifest.engine == loaded[0]["engine"]
    assert {"torch", "peft"} <= set(manifest.versions)
    assert ("unsloth" in manifest.versions) == (manifest.engine == "unsloth")


def test_its_events_tell_the_states_in_order(undisturbed: Job) -> None:
    events = read_events(undisturbed.folder)
    assert [event.data["state"] for event in events if event.type == "state"] == ["starting", "running", "succeeded"]
    assert "number of house" not in "".join(event.message for event in events)


def test_a_run_that_is_done_is_not_done_again(undisturbed: Job) -> None:
    before = read_events(undisturbed.folder)
    assert run(undisturbed, progress=False)["state"] == "succeeded"
    assert read_events(undisturbed.folder) == before


def test_another_recipe_cannot_go_on_with_it(undisturbed: Job, base: Path, chats: Path) -> None:
    with pytest.raises(SettingsError, match="is the run of another recipe"):
        run(Job(recipe(base, chats, seed=6), undisturbed.folder), progress=False)


def test_two_workers_share_a_run_of_packed_rows(base: Path, chats: Path, runs: Path) -> None:
    shared = Job(recipe(base, chats, workers=2, packing=True, max_length=128), folder(runs, "shared"))
    result = run(shared, progress=False)
    assert result["state"] == "succeeded"
    losses = curve(shared)
    assert losses[max(losses)] < losses[1]
    checkpoints = Checkpoints(shared.folder)
    manifest = checkpoints.verify(checkpoints.steps()[-1])
    assert manifest.workers == 2
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(manifest.files)


@pytest.mark.parametrize(("workers", "engine", "packing"), [(1, "unsloth", True), (2, "peft", False)])
def test_the_validation_loss_is_the_mean_over_all_answer_tokens(
    base: Path, chats: Path, runs: Path, tmp_path: Path, workers: int, engine: str, packing: bool
) -> None:
    answers = [" ".join(["word"] * count) for count in (1, 1, 1, 1, 30)]
    asked = [
        [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": said}]
        for n, said in enumerate(answers)
    ]
    uneven = tmp_path / "uneven.jsonl"
    uneven.write_text("".join(json.dumps({"messages": one}) + "\n" for one in asked), encoding="utf-8")
    judged = recipe(
        base,
        chats,
        data={"validation": [str(uneven)]},
        # Nothing is learned by it, so what is judged is the base.
        schedule={"max_steps": 1, "micro_batch_size": 2, "learning_rate": 1e-12},
        workers=workers,
        engine=engine,
        packing=packing,
    )
    job = Job(judged, folder(runs, f"judged-{engine}"))
    result = run(job, progress=False)
    losses = losses_of(base, job, tmp_path)
    mean = sum(sum(one) for one in losses) / sum(len(one) for one in losses)
    assert abs(sum(sum(one) / len(one) for one in losses) / len(losses) - mean) > 0.01, "they are not uneven enough"
    assert result["eval_loss"] == pytest.approx(mean, rel=1e-4)


def losses_of(base: Path, job: Job, scratch: Path) -> list[list[float]]:
    """The base's loss at each answer token of each conversation that the run is judged by."""
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    found = []
    with data_on_this_node(job.folder) as data, torch.inference_mode():
        for row in load_rows(data.splits["validation"], "sft", scratch):
            parts = (torch.tensor(row[name]).split(row["seq_lengths"]) for name in ("input_ids", "labels"))
            for ids, labels in zip(*parts, strict=True):
                losses = cross_entropy(model(ids[None]).logits[0, :-1], labels[1:], reduction="none")
                found.append(losses[labels[1:] != IGNORED].tolist())
    return found


def test_pairs_make_the_better_answer_likelier(base: Path, runs: Path, tmp_path: Path) -> None:
    pairs = Job(recipe(base, write_pairs(tmp_path / "pairs.jsonl"), objective="dpo"), folder(runs, "pairs"))
    result = run(pairs, progress=False)
    losses = curve(pairs)
    # Where nothing is known, the loss is log 2.
    assert losses[1] == pytest.approx(0.693, abs=0.01)
    assert result["train_loss"] < 0.5
    told = [event.message for event in read_events(pairs.folder) if event.level == "warning"]
    assert any("without Unsloth" in line for line in told)


def test_all_weights_can_be_trained_and_stop_early(base: Path, chats: Path, others: str, runs: Path) -> None:
    full = Job(
        recipe(
            base,
            chats,
            method="full",
            engine="peft",
            data={"validation": [others]},
            # It cannot get better than this by less than a thousand.
            schedule={"epochs": 4, "early_stop": {"patience": 1, "min_delta": 1000.0}},
        ),
        folder(runs, "full"),
    )
    result = run(full, progress=False)
    assert (result["stopped_early"], result["model"], result["steps"]) == (True, "model", 6)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(full.folder.names("model"))


def test_data_that_is_at_fault_ends_the_run_in_its_events(base: Path, runs: Path, tmp_path: Path) -> None:
    failed = Job(recipe(base, tmp_path / "nothing.jsonl"), folder(runs, "failed"))
    with pytest.raises(DataError, match="there is no file"):
        run(failed, progress=False)
    last = read_events(failed.folder)[-1]
    assert (last.data["state"], last.data["error"]["code"]) == ("failed", "DataError")
