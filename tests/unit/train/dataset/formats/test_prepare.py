"""A prepared folder: what is in it, that it is whole or not there, and that libraries and trainers can read it."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.train.dataset.formats import models
from tests.unit.train.dataset.formats.rows import answer, call, chat, result, row, user
from train.dataset.formats import (
    IGNORED,
    Chat,
    EncodeSettings,
    InputError,
    PreparedError,
    PrepareSettings,
    SplitSettings,
    encode,
    load_prepared,
    prepare,
)
from train.dataset.formats.inputs import inputs_of, pieces_of, rows_of
from train.dataset.formats.work import Work
from train.dataset.rows import Row

Json = dict[str, Any]
ALL = SplitSettings(train=1, validation=0)
COPY = {"augmented": {"kind": "paraphrase", "model": "m", "of": "openai:7"}}
MIXED = [
    row(user("1?"), answer("one"), user("2?"), answer("two"), id="openai:1"),
    row(user("Weather?"), answer(tool_calls=[call("f")]), result("sunny"), answer("Sunny."), id="openai:2"),
    row(user("Hi"), answer("good"), id="openai:3", rejected=[answer("bad")], tools=[{"type": "web"}]),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "small"
    models.chat().tokenizer.save_pretrained(folder)
    return str(folder)


def write(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(one.to_json() for one in rows))
    return path


def many(count: int) -> list[Row]:
    return [row(user(f"{n}?" * (n % 7 + 1)), answer("a" * (n * 37 % 90 + 1)), id=f"openai:{n}") for n in range(count)]


def settings(**fields: Any) -> PrepareSettings:
    return PrepareSettings(**{"split": ALL, **fields})


def rows_in(folder: Path, split: str = "train") -> list[Json]:
    return list(load_prepared(folder).rows(split))


def test_packs_hold_every_sequence_apart_with_its_labels(tmp_path: Path, model: str) -> None:
    source = many(60)
    small = EncodeSettings(max_tokens=200)
    prepare([write(tmp_path / "rows.jsonl", source)], tmp_path / "out", settings(encode=small), model=model)
    expected = {one.id: encode(one, Chat.load(model), small)[0] for one in source}
    seen: list[str] = []
    found = rows_in(tmp_path / "out")
    for packed in found:
        ends = np.cumsum(packed["seq_lengths"])
        assert ends[-1] == len(packed["input_ids"]) == len(packed["labels"]) <= 200
        for id, ids, labels in zip(
            packed["ids"],
            np.split(packed["input_ids"], ends[:-1]),
            np.split(packed["labels"], ends[:-1]),
            strict=True,
        ):
            assert (ids.tolist(), labels.tolist()) == (expected[id].input_ids, expected[id].labels)
            # Nothing is learned from the end of the sequence before it.
            assert labels[0] == IGNORED
            seen.append(id)
    assert sorted(seen) == sorted(expected)
    assert len(found) < 60


def test_without_packing_each_sequence_is_a_row(tmp_path: Path, model: str) -> None:
    prepare([write(tmp_path / "rows.jsonl", MIXED)], tmp_path / "out", settings(pack=False), model=model)
    assert [found["ids"] for found in rows_in(tmp_path / "out")] == [["openai:1"], ["openai:2"], ["openai:3"]]


def test_text_is_the_templates_own(tmp_path: Path, model: str) -> None:
    prepare([write(tmp_path / "rows.jsonl", MIXED[:1])], tmp_path / "out", settings(form="text"), model=model)
    [found] = rows_in(tmp_path / "out")
    assert found["text"].endswith("<|im_start|>user\n2?<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n")


def test_pairs_are_one_prompt_and_two_answers(tmp_path: Path, model: str) -> None:
    path = write(tmp_path / "rows.jsonl", MIXED)
    tally = prepare([path], tmp_path / "text", settings(form="text", pairs=True), model=model)
    [found] = rows_in(tmp_path / "text")
    assert found["prompt"].endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert (found["chosen"], found["rejected"]) == ("good<|im_end|>", "bad<|im_end|>")
    assert tally.dropped == {"no_pair": 2}
    prepare([path], tmp_path / "tokens", settings(pairs=True), model=model)
    [tokens] = rows_in(tmp_path / "tokens")
    decode = Chat.load(model).tokenizer.decode
    assert {name: decode(tokens[f"{name}_ids"]) for name in ("prompt", "chosen", "rejected")} == {
        name: found[name] for name in ("prompt", "chosen", "rejected")
    }
    prepare([path], tmp_path / "chat", settings(form="chat", pairs=True))
    [messages] = rows_in(tmp_path / "chat")
    assert [messages[name][-1]["content"] for name in ("prompt", "chosen", "rejected")] == ["Hi", "good", "bad"]


@pytest.mark.parametrize("rejected", [[answer("good")], [answer(tool_calls=[call("f")]), result("x"), answer("y")]])
def test_answers_that_are_no_pair_are_left_out(tmp_path: Path, model: str, rejected: list[Json]) -> None:
    path = write(tmp_path / "rows.jsonl", [MIXED[2], row(user("Hi"), answer("good"), id="x", rejected=rejected)])
    assert prepare([path], tmp_path / "out", settings(pairs=True), model=model).dropped == {"no_pair": 1}


@pytest.mark.parametrize("files", ["parquet", "jsonl"])
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("form", ["tokens", "text", "chat"])
def test_a_folder_is_loaded_by_the_library_datasets(
    tmp_path: Path, model: str, form: str, pairs: bool, files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    path = write(tmp_path / "rows.jsonl", [*many(3), *MIXED])
    out = tmp_path / "out"
    wanted = settings(form=form, pairs=pairs, files=files)
    prepare([path], out, wanted, model=None if form == "chat" else model)
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    ours = rows_in(out)
    assert loaded["train"].num_rows == len(ours) == (1 if pairs or form == "tokens" else 6)
    assert set(loaded["train"].column_names) == set(ours[0])
    if form == "chat" and not pairs:
        [called] = loaded["train"][4]["messages"][1]["tool_calls"]
        assert called["function"] == {"name": "f", "arguments": "{}"}


def test_lines_of_chats_are_as_openai_has_them(tmp_path: Path) -> None:
    prepare([write(tmp_path / "rows.jsonl", MIXED)], tmp_path / "out", settings(form="chat", files="jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "out/data/train.jsonl").read_text().splitlines()]
    for line, source in zip(lines, MIXED, strict=True):
        assert line["messages"] == source.model_dump(mode="json")["messages"]
    assert json.loads(lines[2]["tools"]) == [{"type": "web"}]


def test_a_curated_folder_keeps_its_splits(tmp_path: Path, model: str) -> None:
    made = {"augmented": {"kind": "paraphrase", "model": "m", "of": "openai:1"}}
    write(tmp_path / "in/data/train.jsonl", [MIXED[0], chat("openai:1~p", provenance=made)])
    write(tmp_path / "in/data/test.jsonl", [MIXED[1], chat("openai:2~p", provenance=made)])
    tally = prepare([tmp_path / "in"], tmp_path / "out", settings(pack=False), model=model)
    assert {name: split.rows for name, split in tally.splits.items()} == {"train": 2, "test": 1}
    assert tally.dropped == {"held_out": 1}
    assert "wrote 1 of the conversations" in (tmp_path / "out/README.md").read_text()


def test_groups_are_never_split(tmp_path: Path) -> None:
    rows = many(40)
    clusters = {one.id: f"cluster {number % 4}" for number, one in enumerate(rows)}
    half = settings(form="chat", split=SplitSettings(train=1, validation=1))
    path = write(tmp_path / "rows.jsonl", rows)
    prepare([path], tmp_path / "out", half, clusters=clusters)
    places = {
        split: {clusters[one["id"]] for one in rows_in(tmp_path / "out", split)} for split in ("train", "validation")
    }
    assert places["train"] and places["validation"]
    assert not places["train"] & places["validation"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (chat("openai:7"), chat("openai:7")),
        (chat("openai:7"), chat("openai:7#2", provenance={"branch": "2"})),
        (chat("openai:7~p", provenance=COPY), chat("openai:7")),
        (chat("openai:7#2", provenance={"branch": "2"}), chat("openai:7#2")),
    ],
)
def test_a_conversation_in_two_splits_is_refused(tmp_path: Path, first: Row, second: Row) -> None:
    write(tmp_path / "a/data/train.jsonl", [chat("openai:6"), first])
    write(tmp_path / "b/data/test.jsonl", [chat("openai:8"), second])
    with pytest.raises(InputError, match=rf"a/data/train\.jsonl: line 2: {first.id} is in another split too"):
        prepare([tmp_path / "a", tmp_path / "b"], tmp_path / "out", settings(form="chat"))
    assert not (tmp_path / "out").exists()


def test_a_conversation_may_come_again_in_its_split(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name / "data/train.jsonl", many(4))
        write(tmp_path / name / "data/test.jsonl", [chat("openai:9")])
    tally = prepare([tmp_path / "a", tmp_path / "b"], tmp_path / "out", settings(form="chat"))
    assert {name: split.rows for name, split in tally.splits.items()} == {"train": 8, "test": 2}


def test_the_same_input_gives_the_same_folder_and_names_no_path(tmp_path: Path, model: str) -> None:
    path = write(tmp_path / "rows.jsonl", [*many(30), *MIXED])
    for name in ("a", "b"):
        prepare([path], tmp_path / name, settings(split=SplitSettings(validation=0.3)), model=model)
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*") if file.is_file())
    assert [str(file) for file in files] == [
        "README.md",
        "data/train.parquet",
        "data/validation.parquet",
        "manifest.json",
        "plots/lengths.svg",
        "plots/tokens.svg",
    ]
    for file in files:
        content = (tmp_path / "a" / file).read_bytes()
        assert content == (tmp_path / "b" / file).read_bytes()
        assert str(tmp_path).encode() not in content


def test_the_fingerprint_knows_no_order_and_knows_the_settings(tmp_path: Path, model: str) -> None:
    rows = many(20)
    one, other = write(tmp_path / "1.jsonl", rows), write(tmp_path / "2.jsonl", rows[::-1])
    prepare([one], tmp_path / "a", settings(), model=model)
    prepare([other], tmp_path / "b", settings(), model=model)
    prepare([one], tmp_path / "c", settings(pack=False), model=model)
    first, second, third = (load_prepared(tmp_path / name).fingerprint for name in "abc")
    assert first == second != third


def test_numbers_of_the_manifest_are_those_of_the_files(tmp_path: Path, model: str) -> None:
    prepare([write(tmp_path / "rows.jsonl", MIXED)], tmp_path / "out", settings(), model=model)
    split = load_prepared(tmp_path / "out").manifest["splits"]["train"]
    [packed] = rows_in(tmp_path / "out")
    assert split["tokens"]["total"] == len(packed["input_ids"])
    assert split["learned_tokens"] == int((packed["labels"] != IGNORED).sum())
    assert (split["rows"], split["conversations"], split["answers"]) == (1, 3, 5)
    assert split["sha256"] == hashlib.sha256((tmp_path / "out/data/train.parquet").read_bytes()).hexdigest()


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "out/rows.jsonl", MIXED)
    with pytest.raises(InputError, match="not empty"):
        prepare([path], tmp_path / "out", settings(form="chat"))
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_what_stops_it_leaves_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    path = write(tmp_path / "rows.jsonl", MIXED)

    def progress(count: int) -> None:
        raise stop

    with pytest.raises(stop):
        prepare([path], tmp_path / "out", settings(form="chat"), progress=progress)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_no_row_left_is_an_error_that_says_why(tmp_path: Path, model: str) -> None:
    path = write(tmp_path / "rows.jsonl", MIXED[:1])
    with pytest.raises(InputError, match=r"no row is left of 1 \(no_pair 1\)"):
        prepare([path], tmp_path / "out", settings(pairs=True), model=model)


def test_pieces_are_all_the_lines_once(tmp_path: Path) -> None:
    rows = many(25)
    path = write(tmp_path / "rows.jsonl", rows)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\n\n", 1).rstrip(b"\n"))
    pieces = list(pieces_of(inputs_of([path]), 700))
    found = [(number, one.id) for piece in pieces for number, one in rows_of(piece) if isinstance(one, Row)]
    assert [id for _, id in found] == [one.id for one in rows]
    assert [number for number, _ in found] == [1, *range(3, 27)]
    assert sum(piece.size for piece in pieces) == path.stat().st_size
    assert len(pieces) > 4


def test_work_is_sent_to_others_without_its_tokenizer(tmp_path: Path, model: str) -> None:
    work = Work(settings(), model, tmp_path)
    assert work.chat is not None
    sent = pickle.dumps(work)
    assert len(sent) < 2000
    assert pickle.loads(sent).chat.digest == work.chat.digest


@pytest.mark.parametrize("harm", ["change", "remove", "version", "json", "manifest"])
def test_a_folder_that_is_not_as_it_was_written_is_refused(tmp_path: Path, harm: str) -> None:
    out = tmp_path / "out"
    prepare([write(tmp_path / "rows.jsonl", MIXED)], out, settings(form="chat"))
    match harm:
        case "change":
            (out / "data/train.parquet").write_bytes(b"")
        case "remove":
            (out / "data/train.parquet").unlink()
        case "version":
            (out / "manifest.json").write_text('{"version": 0}')
        case "json":
            (out / "manifest.json").write_text("{")
        case "manifest":
            (out / "manifest.json").unlink()
    with pytest.raises(PreparedError) as raised:
        load_prepared(out)
    assert str(out) in str(raised.value) and "\n" not in str(raised.value)


def test_tokens_of_another_model_are_refused(tmp_path: Path, model: str) -> None:
    prepare([write(tmp_path / "rows.jsonl", MIXED)], tmp_path / "out", settings(), model=model)
    prepared = load_prepared(tmp_path / "out")
    prepared.check(Chat.load(model))
    with pytest.raises(PreparedError, match="is for small"):
        prepared.check(models.chat(models.QWEN3))
    with pytest.raises(PreparedError, match="there are train"):
        prepared.rows("test")
