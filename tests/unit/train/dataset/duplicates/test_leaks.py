"""What a training set has of an evaluation set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.train.dataset.duplicates.samples import Json, chat, edited, prose, write
from train.dataset.duplicates import LeakSettings, Reason, find_leaks

HELD_OUT = [chat("e1", prose(1), prose(2)), chat("e2", prose(3), prose(4)), chat("short", "Who?", "Me.")]


def leaks(tmp_path: Path, rows: list[Json], **settings: Any) -> dict[str, tuple[Reason, str]]:
    train, evaluation = write(tmp_path / "t.jsonl", rows), write(tmp_path / "e.jsonl", HELD_OUT)
    found = find_leaks([train], [evaluation], LeakSettings(**settings), tmp_path / "w")
    return {one.id: (one.reason, one.other) for one in found}


def test_the_same_the_similar_and_what_has_a_message_inside_leak(tmp_path: Path) -> None:
    rows = [
        chat("same", prose(1), prose(2).upper()),
        chat("similar", edited(prose(3), 3), prose(4)),
        chat("inside", f"{prose(8, 300)} {prose(3)} {prose(9, 300)}", prose(10)),
        chat("other", prose(11), prose(12)),
        chat("half", " ".join(prose(1).split()[:40]), prose(13)),
        chat("short too", "Who?", "Me."),
    ]
    assert leaks(tmp_path, rows) == {
        "same": (Reason.EXACT, "e1"),
        "similar": (Reason.NEAR, "e2"),
        "inside": (Reason.CONTAINED, "e2"),
        "short too": (Reason.EXACT, "short"),
    }


def test_each_search_can_be_left_out(tmp_path: Path) -> None:
    rows = [chat("same", prose(1), prose(2)), chat("inside", f"{prose(8, 300)} {prose(3)}", prose(10))]
    assert leaks(tmp_path, rows, contained=0.0, near=False) == {"same": (Reason.EXACT, "e1")}


def test_what_must_be_contained_is_a_share(tmp_path: Path) -> None:
    half = " ".join(prose(1).split()[:50])
    (tmp_path / "low").mkdir()
    assert leaks(tmp_path, [chat("half", half, prose(9))]) == {}
    assert leaks(tmp_path / "low", [chat("half", half, prose(9))], contained=0.5) == {
        "half": (Reason.CONTAINED, "e1")
    }


@pytest.mark.parametrize("train", [[], [chat("a", "x")]])
def test_an_empty_evaluation_set_has_nothing_to_leak(tmp_path: Path, train: list[Json]) -> None:
    paths = write(tmp_path / "t.jsonl", train), write(tmp_path / "e.jsonl", [])
    assert find_leaks([paths[0]], [paths[1]], LeakSettings(), tmp_path / "w").dropped == 0
