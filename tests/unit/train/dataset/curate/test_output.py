"""The folder of a set: a new set takes the place of the old one, or that is as it was."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from train.dataset.curate.output import MADE, WORK, foreign, publish, restore

NAMES = ("data/train.jsonl", "plots/a.svg", "README.md", "report.json")
ENDS = 10  # Five parts leave, five come.


class Ended(BaseException):
    """Stands for an interruption, or for the end of the process."""


def write_set(folder: Path, text: str, *more: str) -> None:
    """A set whose files all say ``text``."""
    names = [*NAMES, *more]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    listed = ",".join(f'{{"path": "{name}"}}' for name in names)
    (folder / "manifest.json").write_text(f'{{"recipe": {{"title": "{text}"}}, "files": [{listed}]}}')


def content(out: Path) -> dict[str, str]:
    """What is in a folder, but for the work."""
    return {
        str(path.relative_to(out)): path.read_text()
        for path in out.rglob("*")
        if path.is_file() and WORK not in path.parts
    }


def end_at(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let the process end at the move of this number."""
    rename, left = Path.rename, iter(range(number))

    def moved(self: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise Ended
        return rename(self, target)

    patch.setattr(Path, "rename", moved)


@pytest.mark.parametrize(
    ("earlier", "number"), [*((True, n) for n in range(ENDS)), *((False, n) for n in range(ENDS // 2))]
)
def test_the_set_of_before_is_back_wherever_a_run_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, earlier: bool
) -> None:
    if earlier:
        write_set(tmp_path, "old", "data/test.jsonl")
    made = tmp_path / WORK / MADE
    write_set(made, "new")
    before = content(tmp_path)
    with monkeypatch.context() as patch:
        end_at(patch, number)
        # The way back is ended at once as well: it is as if the process had been killed.
        with pytest.raises(Ended):
            publish(made, tmp_path)
    assert foreign(tmp_path) == []
    with monkeypatch.context() as patch:
        end_at(patch, 2)
        try:
            restore(tmp_path)
        except Ended:
            assert foreign(tmp_path) == []
    restore(tmp_path)
    assert content(tmp_path) == before
    publish(made, tmp_path)
    assert set(content(tmp_path)) == {*NAMES, "manifest.json"}
    assert content(tmp_path)["README.md"] == "new"


@pytest.mark.parametrize("number", range(ENDS))
def test_a_move_that_fails_leaves_the_set_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_set(tmp_path, "old", "data/test.jsonl")
    made = tmp_path / WORK / MADE
    write_set(made, "new")
    before = content(tmp_path)
    rename, moves = Path.rename, count()

    def moved(self: Path, target: Path) -> Path:
        if next(moves) == number:
            raise OSError("no space")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", moved)
    with pytest.raises(OSError, match="no space"):
        publish(made, tmp_path)
    assert content(tmp_path) == before
    assert not (tmp_path / WORK / "old").exists()
