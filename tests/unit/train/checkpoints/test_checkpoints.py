"""Checkpoints: whole or not there, verified, and pruned down to the best and the last; by code and by command."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from train.checkpoints import CheckpointError, Checkpoints, Manifest
from train.checkpoints.command import main
from train.run_folder import RunFolder


@pytest.fixture(params=["disk", "memory"])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoints:
    storage = str(tmp_path / "runs") if request.param == "disk" else f"memory://{tmp_path.name}"
    return Checkpoints(RunFolder(storage, "one"))


@pytest.fixture
def on_disk(tmp_path: Path) -> Checkpoints:
    return Checkpoints(RunFolder(str(tmp_path / "runs"), "one"))


def save(checkpoints: Checkpoints, source: Path, step: int, eval_loss: float | None = None) -> Manifest:
    source.mkdir(exist_ok=True)
    (source / "weights.bin").write_bytes(b"w" * 1000 + bytes([step]))
    (source / "rng_state.pth").write_bytes(b"r")
    checkpoints.begin(step)
    files = checkpoints.add(step, source, ["weights.bin", "rng_state.pth"])
    manifest = Manifest(
        step=step,
        total_steps=9,
        epoch=1.5,
        tokens=7,
        workers=1,
        loss=1.0,
        eval_loss=eval_loss,
        created=datetime.now(UTC),
        versions={"torch": "2"},
        files=files,
    )
    checkpoints.finish(manifest)
    return manifest


def damage(checkpoints: Checkpoints, step: int, name: str, content: bytes) -> None:
    checkpoints.folder.write(f"checkpoints/{step}/{name}", content)


def test_what_has_no_manifest_is_not_there(checkpoints: Checkpoints, tmp_path: Path) -> None:
    save(checkpoints, tmp_path / "made", 2)
    save(checkpoints, tmp_path / "made", 10)
    checkpoints.begin(30)
    checkpoints.add(30, tmp_path / "made", ["weights.bin"])
    assert checkpoints.steps() == [2, 10]
    with pytest.raises(CheckpointError, match="no checkpoint of step 30; there are: 2, 10"):
        checkpoints.get(30)


def test_writing_a_step_again_leaves_nothing_of_the_old_one(checkpoints: Checkpoints, tmp_path: Path) -> None:
    save(checkpoints, tmp_path / "made", 2)
    damage(checkpoints, 2, "old.bin", b"old")
    again = save(checkpoints, tmp_path / "made", 2)
    assert checkpoints.get(2) == again
    assert "old.bin" not in checkpoints.folder.names("checkpoints/2")


@pytest.mark.parametrize("content", [b"", b"w" * 1001, b"w" * 1000])
def test_a_file_that_was_cut_or_changed_is_found(checkpoints: Checkpoints, tmp_path: Path, content: bytes) -> None:
    save(checkpoints, tmp_path / "made", 2)
    assert checkpoints.verify(2).step == 2
    damage(checkpoints, 2, "weights.bin", content)
    with pytest.raises(CheckpointError, match=r"weights\.bin: was changed or cut"):
        checkpoints.verify(2)


def test_a_missing_file_is_found(on_disk: Checkpoints, tmp_path: Path) -> None:
    save(on_disk, tmp_path / "made", 2)
    on_disk.folder.remove("checkpoints/2/weights.bin")
    with pytest.raises(CheckpointError, match=r"weights\.bin: is missing"):
        on_disk.verify(2)


def test_the_best_and_the_last_ones_stay(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for step, loss in ((1, 0.9), (2, 0.3), (3, 0.5), (4, 0.3), (5, 0.8)):
        save(checkpoints, tmp_path / "made", step, loss)
    best = checkpoints.best()
    assert best is not None
    assert best.step == 2
    assert checkpoints.prune(2) == [1, 3]
    assert checkpoints.steps() == [2, 4, 5]


def test_without_validation_the_last_ones_stay(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(checkpoints, tmp_path / "made", step)
    assert checkpoints.best() is None
    assert checkpoints.prune(1) == [1, 2]


def test_a_manifest_that_cannot_be_understood_hides_only_its_own(checkpoints: Checkpoints, tmp_path: Path) -> None:
    save(checkpoints, tmp_path / "made", 1)
    save(checkpoints, tmp_path / "made", 2)
    damage(checkpoints, 2, "manifest.json", b'{"step": 2}')
    assert [one.step for one in checkpoints.list()] == [1]
    assert checkpoints.steps() == [1, 2]
    with pytest.raises(CheckpointError, match="total_steps: this key is required"):
        checkpoints.get(2)


def test_a_restored_copy_is_whole(checkpoints: Checkpoints, tmp_path: Path) -> None:
    manifest = save(checkpoints, tmp_path / "made", 2)
    checkpoints.restore(2, tmp_path / "out")
    assert (tmp_path / "out" / "weights.bin").stat().st_size == manifest.files["weights.bin"].bytes
    with pytest.raises(CheckpointError, match="not empty"):
        checkpoints.restore(2, tmp_path / "out")
    with checkpoints.opened(2) as folder:
        assert (folder / "rng_state.pth").read_bytes() == b"r"


def test_the_command_lists_verifies_prunes_and_restores(
    on_disk: Checkpoints, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = on_disk.folder.address
    for step, loss in ((1, 0.5), (2, 0.2), (3, 0.4)):
        save(on_disk, tmp_path / "made", step, loss)
    assert main(["list", run]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert [line.endswith("best") for line in lines] == [False, True, False]
    assert main(["list", run, "--json"]) == 0
    assert [one["eval_loss"] for one in json.loads(capsys.readouterr().out)] == [0.5, 0.2, 0.4]
    assert main(["inspect", run, "3"]) == 0
    assert Manifest.model_validate_json(capsys.readouterr().out).step == 3
    damage(on_disk, 3, "weights.bin", b"x")
    assert main(["verify", run]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == ["1: 2 files are as they were written", "2: 2 files are as they were written"]
    assert "checkpoints/3/weights.bin" in told.err
    assert main(["restore", run, "2", "--out", str(tmp_path / "out")]) == 0
    assert main(["prune", run, "--keep", "1"]) == 0
    assert on_disk.steps() == [2, 3]


def test_the_command_says_what_is_wrong(on_disk: Checkpoints, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", on_disk.folder.address, "7"]) == 1
    assert "no checkpoint of step 7; there are: none" in capsys.readouterr().err
    with pytest.raises(SystemExit) as usage:
        main(["inspect", on_disk.folder.address, "x"])
    assert usage.value.code == 2
