"""A run that lies in an object store is evaluated, merged and published like one on a disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from serve.adapters.registry import Registry
from tests.finetuning import recipe, tiny_checkpoint, write_chats
from tests.peft import save, tensors
from train.adapters import publish
from train.evaluate import command as evaluate
from train.merge import __main__ as merge
from train.run_folder import RunFolder

#: What the adapter of these tests changes of the tiny model.
QUERIES = {f"model.layers.{number}.self_attn.q_proj": (64, 64) for number in range(2)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(params=["disk", "memory"])
def finished(request: pytest.FixtureRequest, base: Path, tmp_path: Path) -> RunFolder:
    """A finished run, as far as its folder tells."""
    chats, held_out = write_chats(tmp_path / "chats.jsonl", 4), write_chats(tmp_path / "held.jsonl", 3, first=50)
    storage = str(tmp_path / "runs") if request.param == "disk" else f"memory://{tmp_path.name}"
    run = RunFolder(storage, "one")
    adapter = save(tmp_path / "made", tensors(QUERIES))
    (adapter / "groupqwen.json").write_text(json.dumps({"base": {"model": "tiny"}}), encoding="utf-8")
    run.write("config.yaml", recipe(base, chats, data={"validation": [str(held_out)]}).to_yaml().encode())
    run.put(adapter, "adapter")
    return run


@pytest.fixture
def settings(tmp_path: Path) -> str:
    (tmp_path / "prompts.txt").write_text("What is rain?\n", encoding="utf-8")
    wanted = {
        "general": {"prompts": "prompts.txt", "max_tokens": 4},
        "agreement": None,
        "samples": 1,
        "gate": {"held_out_loss": 5.0, "perplexity_rise": 5.0, "agreement": None, "logprob_distance": None},
    }
    path = tmp_path / "evaluation.yaml"
    path.write_text(yaml.safe_dump(wanted), encoding="utf-8")
    return str(path)


def test_its_report_lies_beside_it_and_is_published_with_it(
    finished: RunFolder, settings: str, tmp_path: Path
) -> None:
    assert evaluate.main([finished.address, "--config", settings]) == 0
    report = finished.read_json("evaluation/evaluation.json")
    assert report is not None and report["held_out"]["conversations"] == 3
    assert (finished.read("evaluation/evaluation.html") or b"").startswith(b"<!doctype html>")
    registry = Registry(tmp_path / "registry")
    manifest = publish(finished, registry=registry)
    assert registry.verify("tiny", "one") == manifest
    assert manifest.version == report["version"] and manifest.evaluation["gate"]["passed"] is True


def test_it_is_merged_into_its_base(finished: RunFolder, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    assert merge.main([finished.address, "--format", "safetensors", "--out", str(out)]) == 0
    assert (out / "model.safetensors").read_bytes() != (base / "model.safetensors").read_bytes()


def test_what_is_no_finished_run_is_refused(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished.remove("adapter")
    merged = [finished.address, "--format", "safetensors", "--out", str(tmp_path / "merged")]
    for code in (evaluate.main([finished.address]), merge.main(merged)):
        assert code == 1
    assert capsys.readouterr().err.count("is it the folder of a finished run?") == 2


def test_a_jobs_run_whose_files_are_gone_has_to_be_told_which_they_were(
    base: Path, settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(str(tmp_path / "runs"), "ftjob-1")
    own = f"{run.address}/files/training_file.jsonl"
    run.write("config.yaml", recipe(base, Path(own)).to_yaml().encode())
    run.put(save(tmp_path / "made", tensors(QUERIES)), "adapter")
    assert evaluate.main([run.address, "--config", settings]) == 1
    assert "has kept its files only until it ended" in capsys.readouterr().err
    named = [
        "--trained",
        str(write_chats(tmp_path / "t.jsonl", 2)),
        "--held-out",
        str(write_chats(tmp_path / "h.jsonl", 2)),
    ]
    assert evaluate.main([run.address, "--config", settings, *named]) == 0
