"""Runs on a real local Ray, with a tiny model: what they leave, by one worker and two, from answers and pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy, logsigmoid
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


@pytest.fixture(scope="module")
def packed(base: Path, chats: Path, others: str, runs: Path) -> Job:
    """A run of packed rows by two workers."""
    job = Job(recipe(base, chats, data={"validation": [others]}, workers=2, packing=True), folder(runs, "packed"))
    assert run(job, progress=False)["state"] == "succeeded"
    return job


def test_two_workers_share_a_run_of_packed_rows(packed: Job) -> None:
    losses = curve(packed)
    assert losses[max(losses)] < losses[1]
    checkpoints = Checkpoints(packed.folder)
    manifest = checkpoints.verify(checkpoints.steps()[-1])
    assert manifest.workers == 2
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(manifest.files)


@pytest.mark.parametrize("name", ["undisturbed", "undisturbed_by_two", "packed"])
def test_the_validation_loss_is_the_mean_over_all_answer_tokens(
    name: str, request: pytest.FixtureRequest, base: Path, tmp_path: Path
) -> None:
    job: Job = request.getfixturevalue(name)
    losses = losses_of(tuned(base, job), job, tmp_path)
    mean = sum(sum(one) for one in losses) / sum(len(one) for one in losses)
    assert abs(sum(sum(one) / len(one) for one in losses) / len(losses) - mean) > 0.01, "they are not uneven enough"
    assert eval_loss(job) == pytest.approx(mean, rel=1e-4)


def tuned(base: Path, job: Job) -> Any:
    """What a run has made of its base."""
    model = AutoModelForCausalLM.from_pretrained(base)
    return PeftModel.from_pretrained(model, str(Path(job.folder.address) / "adapter")).eval()


def eval_loss(job: Job) -> float:
    result = job.folder.read_json("result.json")
    assert result is not None
    return float(result["eval_loss"])


def losses_of(model: Any, job: Job, scratch: Path) -> list[list[float]]:
    """The loss at each answer token of each conversation that the run is judged by."""
    found = []
    with data_on_this_node(job.folder) as data, torch.inference_mode():
        for row in load_rows(data.splits["validation"], "sft", scratch):
            parts = (torch.tensor(row[name]).split(row["seq_lengths"]) for name in ("input_ids", "labels"))
            for ids, labels in zip(*parts, strict=True):
                losses = cross_entropy(model(input_ids=ids[None]).logits[0, :-1], labels[1:], reduction="none")
                found.append(losses[labels[1:] != IGNORED].tolist())
    return found


def test_pairs_make_the_better_answer_likelier_and_are_judged_alike_by_one_worker_and_two(
    base: Path, runs: Path, tmp_path: Path
) -> None:
    learned = write_pairs(tmp_path / "pairs.jsonl")
    # No whole number of batches, and those that would come twice to fill the last one are unlike the others.
    others = str(write_pairs(tmp_path / "others.jsonl", 5, first=100, swapped=2))
    judged = []
    for workers in (1, 2):
        wanted = recipe(base, learned, objective="dpo", data={"validation": [others]}, workers=workers)
        job = Job(wanted, folder(runs, f"pairs-{workers}"))
        result = run(job, progress=False)
        # Where nothing is known, the loss is log 2.
        assert curve(job)[1] == pytest.approx(0.693, abs=0.01)
        assert result["train_loss"] < 0.5
        losses = pair_losses(tuned(base, job), job, tmp_path)
        mean = sum(losses) / len(losses)
        assert abs(sum(losses + losses[:3]) / (len(losses) + 3) - mean) > 0.01, "they are not uneven enough"
        assert eval_loss(job) == pytest.approx(mean, rel=1e-4)
        judged.append(eval_loss(job))
        told = [event.message for event in read_events(job.folder) if event.level == "warning"]
        assert any("without Unsloth" in line for line in told)
    assert judged[0] == pytest.approx(judged[1], rel=1e-3)


def pair_losses(model: Any, job: Job, scratch: Path) -> list[float]:
    """DPO's loss of each pair that the run is judged by."""
    found = []
    with data_on_this_node(job.folder) as data, torch.inference_mode():
        for row in load_rows(data.splits["validation"], "dpo", scratch):
            gains = []
            for answer in (row["chosen_ids"], row["rejected_ids"]):
                after = likelihood(model, row["prompt_ids"], answer)
                with model.disable_adapter():
                    gains.append(after - likelihood(model, row["prompt_ids"], answer))
            found.append(-float(logsigmoid(job.recipe.beta * (gains[0] - gains[1]))))
    return found


def likelihood(model: Any, prompt: list[int], answer: list[int]) -> Any:
    """The logarithm of how likely a model holds an answer."""
    ids = torch.tensor([prompt + answer])
    likely = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    return likely.gather(1, ids[0, 1:, None])[-len(answer) :].sum()


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
