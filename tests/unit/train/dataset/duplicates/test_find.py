"""Duplicates in files of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.unit.train.dataset.duplicates.samples import Json, chat, edited, prose, write
from train.dataset.duplicates import BrokenLine, Decisions, DuplicateSettings, Reason, find_duplicates, pieces


def decided(tmp_path: Path, *shards: list[Json], **settings: Any) -> Decisions:
    paths = [write(tmp_path / f"{number}.jsonl", rows) for number, rows in enumerate(shards)]
    return find_duplicates(paths, DuplicateSettings(**settings), tmp_path / "work")


def dropped(tmp_path: Path, *shards: list[Json], **settings: Any) -> dict[str, tuple[Reason, str]]:
    return {one.id: (one.reason, one.other) for one in decided(tmp_path, *shards, **settings)}


def test_what_differs_in_case_spaces_and_forms_of_letters_is_the_same(tmp_path: Path) -> None:
    rows = [
        chat("a", "What is a Straße?", "A  road."),
        chat("b", "what is a STRASSE?", "a road."),
        chat("c", "What is a Straße?", "A town."),
        chat("d", "Ｗｈａｔ is\u00a0a Straße?", "A road."),  # noqa: RUF001
    ]
    assert dropped(tmp_path, rows, near=False) == {"b": (Reason.EXACT, "a"), "d": (Reason.EXACT, "a")}


def test_rows_that_differ_in_what_is_not_content_are_the_same(tmp_path: Path) -> None:
    rows = [chat("a", "Hi"), chat("b", "Hi", model="m", created_at="2026-01-01T00:00:00Z", source="claude")]
    assert dropped(tmp_path, rows) == {"a": (Reason.EXACT, "b")}


def test_tools_thoughts_and_rejected_answers_are_content(tmp_path: Path) -> None:
    thinking = chat("b", "Hi")
    thinking["messages"][1]["reasoning_content"] = "Hm."
    rejected = [{"role": "assistant", "content": "No."}]
    rows = [
        chat("a", "Hi"),
        thinking,
        chat("c", "Hi", tools=[{"type": "function"}]),
        chat("d", "Hi", rejected=rejected),
    ]
    assert dropped(tmp_path, rows, near=False) == {}


def test_a_text_with_a_word_more_is_a_near_duplicate_and_half_of_it_is_none(tmp_path: Path) -> None:
    text = prose(1)
    rows = [chat("a", text + " end"), chat("b", text), chat("c", edited(text, 40)), chat("d", prose(2))]
    assert dropped(tmp_path, rows) == {"b": (Reason.NEAR, "a")}


def test_a_system_message_makes_nothing_similar_and_nothing_different(tmp_path: Path) -> None:
    system = {"role": "system", "content": prose(7, 400)}
    rows = [chat("a", prose(1)), chat("b", prose(2)), chat("c", prose(1))]
    for row in rows[:2]:
        row["messages"].insert(0, system)
    assert dropped(tmp_path, rows) == {"c": (Reason.NEAR, "a")}


def test_chains_of_similar_rows_are_one_group(tmp_path: Path) -> None:
    chain = [prose(1, 100)]
    for step in range(6):
        chain.append(edited(chain[-1], 4, seed=step))
    found = decided(tmp_path, [chat(str(number), text) for number, text in enumerate(chain)])
    assert (found.dropped, found.groups) == (6, 1)


@pytest.mark.parametrize(("keep", "kept"), [("longest", "long"), ("newest", "new"), ("best", "liked")])
def test_what_is_kept_is_as_the_settings_say(tmp_path: Path, keep: str, kept: str) -> None:
    text = prose(1)
    rows = [
        chat("first", text),
        chat("new", text, created_at="2026-02-01T00:00:00Z"),
        chat("old", text, provenance={"updated_at": "2026-01-01T00:00:00Z"}),
        chat("long", text + " and more"),
        chat("disliked", text + " and much more", provenance={"feedback": {"rating": "down", "corrected": False}}),
        chat("liked", text, provenance={"feedback": {"rating": "up", "corrected": False}}),
    ]
    if keep == "longest":
        del rows[4]
    found = dropped(tmp_path, rows, keep=keep)
    assert set(found) == {row["id"] for row in rows} - {kept}
    assert {other for _, other in found.values()} == {kept}


def test_of_equals_the_first_is_kept_over_all_files(tmp_path: Path) -> None:
    rows = [chat("a", "x"), chat("b", "y")], [chat("c", "y"), chat("d", "z")], [chat("e", "x"), chat("f", "z")]
    assert dropped(tmp_path, *rows) == {
        "c": (Reason.EXACT, "b"),
        "e": (Reason.EXACT, "a"),
        "f": (Reason.EXACT, "d"),
    }


@pytest.mark.parametrize(
    "texts", [("好" * 5, "坏" * 5), ("مرحبا", "وداعا"), ("🎉🎉", "🚀"), ("?!", "..."), ("a", "b"), (" x ", "y")]
)
def test_short_and_odd_texts_are_compared_whole(tmp_path: Path, texts: tuple[str, str]) -> None:
    rows = [chat("a", texts[0], texts[0]), chat("b", texts[1], texts[1]), chat("c", texts[0], texts[0])]
    assert dropped(tmp_path, rows) == {"c": (Reason.EXACT, "a")}


@pytest.mark.parametrize("unit", ["word", "character"])
def test_texts_without_spaces_have_shingles_too(tmp_path: Path, unit: str) -> None:
    text = "".join(chr(0x4E00 + (number * 7919) % 5000) for number in range(150))
    near = text[:70] + "很" + text[71:]
    rows = [chat("a", text), chat("b", near), chat("c", text[::-1])]
    assert dropped(tmp_path, rows, unit=unit) == {"b": (Reason.NEAR, "a")}


def test_rows_of_one_template_are_no_duplicates_and_true_ones_among_them_are_found(tmp_path: Path) -> None:
    template = prose(0, 60)
    rows = [chat(str(number), f"{template} {prose(number + 1, 40)}") for number in range(600)]
    planted = {f"p{number}": f"{number}" for number in range(0, 600, 10)}
    rows += [chat(id, edited(rows[int(of)]["messages"][0]["content"], 3, seed=9)) for id, of in planted.items()]
    found = dropped(tmp_path, rows)
    missed = [id for id, of in planted.items() if found.get(id) != (Reason.NEAR, of) and of not in found]
    assert len(missed) <= 2
    assert set(found) <= set(planted) | set(planted.values())


def test_pieces_of_any_size_give_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [prose(number % 90) for number in range(120)] + [edited(prose(number), 2) for number in range(20)]
    rows = [chat(str(number), text) for number, text in enumerate(texts)]
    whole = dropped(tmp_path, rows)
    for size in (997, 20_000):
        monkeypatch.setattr(pieces, "PIECE_BYTES", size)
        folder = tmp_path / str(size)
        folder.mkdir()
        assert dropped(folder, rows) == whole
    assert len(whole) == 50


def test_decisions_go_beside_the_rows_of_each_file(tmp_path: Path) -> None:
    found = decided(tmp_path, [chat("a", "x"), chat("b", "y")], [], [chat("c", "y"), chat("d", "z"), chat("e", "x")])
    assert [[one and one.other for one in found.of_shard(shard)] for shard in range(3)] == [
        [None, None],
        [],
        ["b", None, "a"],
    ]
    assert np.concatenate([found.reasons(shard) for shard in range(3)]).tolist() == [0, 0, 1, 0, 1]
    assert (found.rows, found.dropped, found.groups, found.counts) == (5, 2, 2, {"exact": 2})


def test_empty_lines_are_no_rows_and_no_rows_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b"\n" + write(tmp_path / "b.jsonl", [chat("a", "x"), chat("b", "x")]).read_bytes().replace(b"\n", b"\n \n")
    )
    assert find_duplicates([path], DuplicateSettings(), tmp_path / "w").dropped == 1
    empty = write(tmp_path / "c.jsonl", [])
    assert find_duplicates([empty], DuplicateSettings(), tmp_path / "v").rows == 0
    assert find_duplicates([], DuplicateSettings(), tmp_path / "u").rows == 0


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b'{"id": 1, "messages": []}', b'{"id": "a"}', b"\xff", b'{"id": "a", "messages": [1]}']
)
def test_a_line_that_is_no_row_is_named_by_file_line_and_byte(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path / "a.jsonl", [chat("a", "x"), chat("b", "y")])
    good = path.read_bytes()
    path.write_bytes(good + line + b"\n")
    with pytest.raises(BrokenLine, match=rf"a\.jsonl, line 3, byte {len(good)}: "):
        find_duplicates([path], DuplicateSettings(), tmp_path / "w")


def test_progress_is_told_for_each_step(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    path = write(tmp_path / "a.jsonl", [chat("a", "x")])
    find_duplicates([path], DuplicateSettings(), tmp_path / "w", progress=lambda *what: told.append(what))
    assert [one for one in told if one[1] == one[2]] == [
        ("read", 1, 1),
        ("compare exactly", 1, 1),
        ("look for candidates", 25, 25),
        ("compare candidates", 1, 1),
    ]


@pytest.mark.parametrize("wrong", [{"threshold": 0.2}, {"keep": "any"}, {"unit": "token"}, {"permutations": 100}])
def test_settings_say_what_is_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        DuplicateSettings(**wrong)
