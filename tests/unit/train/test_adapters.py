"""A run's adapter in the registry, and who answers for the model, by command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serve.adapters.files import version_in
from serve.adapters.promotions import Promotions
from serve.adapters.registry import Registry
from tests.peft import save, tensors
from train import adapters

REPORT = {"model": "m", "gate": {"passed": True, "checks": [{}]}, "samples": [{"question": "a private question"}]}


def finished(folder: Path, *, report: Any = REPORT, seed: int = 0) -> Path:
    """A folder as a finished run leaves it, with a report on its adapter."""
    save(folder / "adapter", tensors({"model.layers.0.self_attn.q_proj": (8, 8)}, seed=seed))
    origin = {"base": {"model": "m", "weights_sha256": ["a" * 64]}, "training_data": "f" * 64}
    (folder / "adapter" / "groupqwen.json").write_text(json.dumps(origin), encoding="utf-8")
    if report is not None:
        (folder / "evaluation").mkdir()
        report = {"version": version_in(folder / "adapter"), **report}
        (folder / "evaluation" / "evaluation.json").write_text(json.dumps(report), encoding="utf-8")
    return folder


class Commands:
    """The command on a registry of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.registry = Registry(folder / "registry")
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = adapters.main(["--registry", str(self.registry.root), *arguments])
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(tmp_path, capsys)


def test_a_run_is_published_with_what_it_was_made_of_and_without_what_was_said(run: Commands, tmp_path: Path) -> None:
    code, out, _ = run("publish", str(finished(tmp_path / "run-1")))
    assert code == 0 and out.startswith("m:run-1: version ")
    manifest = run.registry.verify("m", "run-1")
    assert (manifest.base.weights_sha256, manifest.training_data) == (["a" * 64], "f" * 64)
    assert manifest.evaluation == {
        "model": "m",
        "version": manifest.version,
        "gate": {"passed": True, "checks": [{}]},
    }


@pytest.mark.parametrize("other", [{"version": "0" * 16}, {"model": "m2"}])
def test_a_report_on_something_else_is_refused_and_an_old_one_does_not_count(
    run: Commands, tmp_path: Path, other: dict[str, str]
) -> None:
    mine = finished(tmp_path / "run-1", report={**REPORT, **other})
    code, _, error = run("publish", str(mine), "--evaluation", str(mine / "evaluation" / "evaluation.json"))
    assert code == 1 and "error: the evaluation is on version" in error
    assert run.registry.models() == []
    # Published to be evaluated anew, as after a run that was trained on.
    code, out, _ = run("publish", str(mine))
    assert code == 0 and out.endswith("is published, not evaluated\n")
    assert run.registry.manifest("m", "run-1").evaluation == {}
    assert "has not been evaluated" in run("promote", "m", "run-1")[2]


def test_another_runs_report_does_not_promote_this_one(run: Commands, tmp_path: Path) -> None:
    good, mine = finished(tmp_path / "good"), finished(tmp_path / "mine", report=None, seed=1)
    assert run("publish", str(mine), "--evaluation", str(good / "evaluation" / "evaluation.json"))[0] == 1
    assert run("publish", str(good), "--evaluation", str(good / "evaluation" / "evaluation.json"))[0] == 0


def test_an_adapter_goes_from_canary_to_default_and_back(run: Commands, tmp_path: Path) -> None:
    run("publish", str(finished(tmp_path / "run-1")), "--name", "tuned")
    assert run("canary", "m", "tuned", "--weight", "0.25", "--min-ratings", "3")[0] == 0
    standing = Promotions(run.registry).standing("m")
    assert standing.canary is not None and standing.rules.min_ratings == 3
    assert run("promote", "m", "tuned")[0] == 0
    assert run("rollback", "m", "--reason", "people complain")[0] == 0
    code, out, _ = run("history", "m")
    lines = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and [line[2].split("@")[0] for line in lines] == [
        "canary tuned",
        "promote tuned",
        "rollback tuned",
    ]
    assert lines[0][5] == "the model itself, tuned by 0.25" and lines[2][4] == "people complain"
    code, out, _ = run("rollback", "m")
    assert code == 0 and "nothing to roll back" in out


def test_a_registry_that_cannot_be_written_now_is_told_from_an_adapter_that_cannot_be_served(
    run: Commands, tmp_path: Path
) -> None:
    made = finished(tmp_path / "run-1")
    run.registry.root.write_bytes(b"a file in the way")
    assert run("publish", str(made))[0] == 75
    assert run("publish", str(tmp_path))[0] == 1


def test_what_the_gate_did_not_pass_needs_a_reason(run: Commands, tmp_path: Path) -> None:
    run("publish", str(finished(tmp_path / "run-1", report=None)))
    code, _, error = run("promote", "m", "run-1")
    assert code == 1 and error == "error: m:run-1 has not been evaluated; publish it with its evaluation\n"
    assert run("promote", "m", "run-1", "--reason", "tried by hand")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["publish", "nowhere"], "is it the folder of a finished run?"),
        (["promote", "m", "none"], "no adapter 'none' is published"),
        (["canary", "../m", "a", "--weight", "1"], "cannot be the model id"),
        (["promote", "m", "a", "--min-requests", "201"], "min_requests: "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(run: Commands, arguments: list[str], said: str) -> None:
    code, out, error = run(*arguments)
    assert (code, out) == (1, "") and error.count("\n") == 1 and said in error


def test_a_broken_evaluation_is_named(run: Commands, tmp_path: Path) -> None:
    broken = tmp_path / "e.json"
    broken.write_text("[1]", encoding="utf-8")
    code, _, error = run("publish", str(finished(tmp_path / "run-1")), "--evaluation", str(broken))
    assert code == 1 and "must hold a JSON object" in error
    assert run.registry.models() == []


def test_a_weight_that_is_no_share_is_wrong_usage(run: Commands) -> None:
    with pytest.raises(SystemExit) as raised:
        run("canary", "m", "a", "--weight", "1.5")
    assert raised.value.code == 2
