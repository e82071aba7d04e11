"""Whatever the input holds: nothing is raised, and the good rows are all there."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.train.dataset.curate.samples import job, many, no_bar, rows_in, write_recipe
from tests.unit.train.dataset.exports.samples import chatgpt_chat, write, zipped
from train.dataset.curate import NothingLeft, curate
from train.dataset.curate.reading import Part, ReadPart, holds_rows, survey
from train.dataset.curate.stages import shards_in
from train.dataset.curate.units import do_units
from train.dataset.exports import ReadOptions
from train.dataset.rows import Row

GOOD = many(12)
LINES = [row.to_json() for row in GOOD]
bounded = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(content: bytes) -> list[Row]:
    """The rows that are read out of a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        path.write_bytes(content)
        _, parts = survey([str(path)], lambda count: None)
        assert sum(part.size for part in parts) == len(content)
        done = do_units(ReadPart(Path(folder), ReadOptions(), no_bar), parts, Path(folder), 0, lambda count: None)
        shards = shards_in(Path(folder), [shard for one in done for shard in one["shards"]])
        return [row for shard in shards for _, row in shard.read()]


@bounded
@given(st.integers(0, len(LINES)), st.binary(max_size=200).map(lambda junk: junk.replace(b"\n", b"")))
@example(0, b"[")
@example(0, b"PK\x03\x04")
@example(3, b'{"id":"x","source":"openai","messages":[],"provenance":{}}')
def test_a_line_of_rubbish_costs_no_other_row(place: int, junk: bytes) -> None:
    content = b"".join([LINES[11], *LINES[:place], junk + b"\n", *LINES[place:11]])
    assert {row.id for row in read(content)} == {row.id for row in GOOD}


@bounded
@given(st.integers(0, sum(map(len, LINES))))
def test_a_file_that_is_cut_off_keeps_the_rows_before_the_cut(end: int) -> None:
    content = b"".join(LINES)[:end]
    whole = content.count(b"\n")
    if whole:
        assert [row.id for row in read(content)][:whole] == [row.id for row in GOOD[:whole]]
    else:
        read(content)


@bounded
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_flipped_bytes_cost_only_the_lines_that_they_are_in(seed: int, count: int) -> None:
    chance = random.Random(seed)
    lines = list(LINES)
    hit = set(chance.sample(range(1, len(lines)), min(count, len(lines) - 1)))
    for place in hit:
        line = bytearray(lines[place])
        line[chance.randrange(len(line) - 1)] = chance.choice(b'\x00{}[]"\\x\xff0')
        lines[place] = bytes(line)
    found = {row.id for row in read(b"".join(lines))}
    assert {GOOD[place].id for place in range(len(lines)) if place not in hit} <= found


@bounded
@given(st.binary(max_size=3000))
def test_random_bytes_are_no_rows_and_no_error(content: bytes) -> None:
    assert read(content) == []


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 100))
def test_a_zip_that_is_cut_off_gives_what_is_there_to_the_whole_pipeline(percent: int) -> None:
    chats = [chatgpt_chat(f"c{n}", f"What is number {n * 37}?", f"It has {n} friends.") for n in range(30)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = Path(write(folder / "e.zip", zipped({"conversations.json": json.dumps(chats)})))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * percent // 100])
        recipe = write_recipe(folder / "r.yaml", {"step": "encoding"}, {"step": "echo"})
        try:
            curate(job([str(path)], recipe, folder / "out"))
        except NothingLeft:
            assert percent < 60
        else:
            assert all(row.source == "chatgpt" for row in rows_in(folder / "out"))


def test_a_file_is_cut_into_parts_of_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(row.to_json() for row in many(30_000)))
    _, parts = survey([str(path)], lambda count: None)
    content = path.read_bytes()
    assert len(parts) > 1
    assert b"".join(content[part.start : part.start + part.size] for part in parts) == content
    assert all(content[part.start + part.size - 1 : part.start + part.size] == b"\n" for part in parts)
    assert [part.line for part in parts] == [content.count(b"\n", 0, part.start) + 1 for part in parts]


def test_a_line_that_is_too_long_is_told_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.write(LINES[0] + b'{"id": "' + b"x" * (65 << 20) + b'"}\n' + LINES[1])
    part = Part(0, str(path), True, 0, path.stat().st_size, 1)
    found = ReadPart(tmp_path, ReadOptions())(part)
    assert found["skipped"] == {"too_large": 1}
    assert [problem["line"] for problem in found["problems"]] == [2]
    assert sum(shard["rows"] for shard in found["shards"]) == 2


def test_rows_are_told_from_exports_by_their_content(tmp_path: Path) -> None:
    rows, export, huge = tmp_path / "a.txt", tmp_path / "b.jsonl", tmp_path / "c"
    rows.write_bytes(b"\n" + LINES[0])
    export.write_text(json.dumps([chatgpt_chat()]))
    long = GOOD[0].model_dump(mode="json")
    long["messages"][1]["content"] = "word " * 300_000
    huge.write_bytes(json.dumps(long).encode())
    assert (holds_rows(str(rows)), holds_rows(str(export)), holds_rows(str(huge))) == (True, False, True)
