"""The pipeline: what comes out, that it is the same each time, and that it goes on where it was."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from serve.settings.errors import SettingsError
from tests.unit.train.dataset.curate.samples import (
    ANSWER,
    CONTEXT,
    DEFAULT,
    job,
    many,
    row,
    rows_in,
    write_recipe,
    write_rows,
)
from tests.unit.train.dataset.exports.samples import chatgpt_chat, claude, write, zipped
from train.dataset.curate import InputFault, NothingLeft, curate
from train.dataset.curate.duplicates import LeakFound
from train.dataset.curate.output import write_report
from train.dataset.curate.passes import RowPass
from train.dataset.curate.row_stages import RowStage
from train.dataset.curate.steps.personal import Personal
from train.dataset.disk import digest_of
from train.dataset.rows import Provenance, Row

MAIL = "jane.doe@example.com"


def mixed() -> list[Row]:
    """Rows of which some are bad, twice there, or hold personal data."""
    good = many(40)
    return [
        *good,
        row("How?", "I'm sorry, but I can't help with that.", id="refused"),
        row(f"My address is {MAIL}, how do rivers form?", ANSWER, id="mail"),
        good[3].model_copy(update={"id": "copy"}),
    ]


def tree(out: Path) -> dict[str, str]:
    """Every file of a set, by its hash."""
    return {
        str(path.relative_to(out)): digest_of(path)
        for path in out.rglob("*")
        if path.is_file() and ".work" not in path.parts
    }


def run(tmp_path: Path, rows: list[Row], *steps: dict[str, Any], out: str = "out", **fields: Any) -> Any:
    """The report of steps over rows."""
    path = write_rows(tmp_path / "rows.jsonl", rows)
    return curate(job([path], write_recipe(tmp_path / "recipe.yaml", *steps, **fields), tmp_path / out))


def test_a_zip_of_chats_becomes_a_set_with_everything_that_belongs_to_it(tmp_path: Path) -> None:
    chats = [
        chatgpt_chat(f"c{n}", f"What is number {n * 37}?", f"The number {n * 37} has {n} friends.") for n in range(60)
    ]
    path = write(tmp_path / "export.zip", zipped({"conversations.json": json.dumps(chats)}))
    report = curate(job([path], str(DEFAULT), tmp_path / "out"))
    out = tmp_path / "out"
    assert {"README.md", "report.json", "manifest.json", "data", "plots"} <= {entry.name for entry in out.iterdir()}
    assert len(rows_in(out)) == sum(report.facts.rows.values()) > 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["rows"] == len(rows_in(out))
    for file in manifest["files"]:
        assert digest_of(out / file["path"]) == file["sha256"]
    assert "configs:" in (out / "README.md").read_text()


def test_every_step_counts_what_it_kept_changed_and_dropped(tmp_path: Path) -> None:
    report = run(
        tmp_path,
        mixed(),
        {"step": "refusals", "phrases": str(DEFAULT.parent / "words/refusals.txt")},
        {"step": "personal", "names": "off"},
        {"step": "duplicates"},
    )
    counts = {name: (tally.kept, tally.changed, tally.dropped) for name, tally in report.steps}
    assert counts == {"read": (43, 0, 0), "refusals": (42, 0, 1), "personal": (41, 1, 0), "duplicates": (41, 0, 1)}
    assert dict(report.steps)["personal"].changes == Counter(email=1)
    assert dict(report.steps)["duplicates"].reasons == Counter(exact=1)


def test_nothing_that_is_told_holds_what_was_said_or_found(tmp_path: Path) -> None:
    report = run(tmp_path, mixed(), {"step": "personal", "names": "off"})
    told = [
        report.text(),
        *((tmp_path / "out" / name).read_text() for name in ("README.md", "report.json", "manifest.json")),
    ]
    assert not any(word in text for text in told for word in (MAIL, "jane", "granite", "How do rivers"))
    assert MAIL not in "".join(path.read_text() for path in (tmp_path / "out" / "data").iterdir())


def test_names_that_could_not_be_looked_for_are_told(tmp_path: Path) -> None:
    note = "names were not looked for: the spaCy model xx_no_such_model is not installed"
    report = run(tmp_path, mixed(), {"step": "personal", "name_model": "xx_no_such_model"})
    assert note in report.text().splitlines()
    assert json.loads((tmp_path / "out" / "report.json").read_bytes())["notes"] == [note]
    assert note in (tmp_path / "out" / "README.md").read_text()
    quiet = run(tmp_path, mixed(), {"step": "personal", "names": "off"}, out="off")
    assert quiet.body()["notes"] == []


def test_personal_data_is_looked_for_again_once_names_can_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = RowStage((Personal(name_model="xx_late_model"),), CONTEXT)
    keys = [stage.key(), RowStage((Personal(name_model="xx_late_model"),), CONTEXT).key()]
    (tmp_path / "xx_late_model").mkdir()
    (tmp_path / "xx_late_model" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    keys.append(stage.key())
    for version in ("1.0", "2.0"):
        info = tmp_path / "xx_late_model.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: xx_late_model\nVersion: {version}\n")
        importlib.invalidate_caches()
        keys.append(stage.key())
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [
        {"step": "personal", "names": "off"},
        {"step": "duplicates"},
        {"step": "sample", "rows": 20},
    ]
    run(tmp_path, mixed(), *steps, out="one")
    run(tmp_path, mixed(), *steps, out="two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_branches_of_one_conversation_stay_together_in_a_split(tmp_path: Path) -> None:
    rows = [
        one.model_copy(update={"id": f"{one.id}#b" if branch else one.id, "provenance": Provenance(branch=branch)})
        for one in many(60)
        for branch in (None, "b")
    ]
    run(tmp_path, rows, {"step": "branch", "keep": "all"}, split={"train": 0.5, "validation": 0.5})
    places: dict[str, set[str]] = {}
    for name in ("train", "validation"):
        for line in (tmp_path / "out" / "data" / f"{name}.jsonl").read_bytes().splitlines():
            places.setdefault(Row.from_json(line).id.split("#")[0], set()).add(name)
    assert len(places) == 60
    assert all(len(found) == 1 for found in places.values())
    assert {name for found in places.values() for name in found} == {"train", "validation"}


def test_of_rows_with_one_id_the_one_that_changed_last_is_kept(tmp_path: Path) -> None:
    def version(day: int | None, said: str) -> Row:
        at = None if day is None else f"2026-05-{day:02}T00:00:00Z"
        line = row(said, id="same").model_dump(mode="json") | {"provenance": {"updated_at": at}}
        return Row.from_json(json.dumps(line))

    rows = [version(3, "third?"), version(9, "ninth?"), version(None, "never?"), version(9, "again?")]
    report = run(tmp_path, [*many(3), *rows], {"step": "branch"})
    assert [one.messages[0].content for one in rows_in(tmp_path / "out") if one.id == "same"] == ["ninth?"]
    assert dict(report.steps)["read"].reasons == Counter(repeated=3)


def test_a_broken_line_is_told_with_its_number_and_costs_nothing_else(tmp_path: Path) -> None:
    lines = [one.to_json().rstrip() for one in many(5)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([lines[0], b'{"id": "secret words"', b"", lines[1], b"\xff\xfe", *lines[2:]]))
    told: list[str] = []
    report = curate(
        job([str(path)], write_recipe(tmp_path / "r.yaml", {"step": "branch"}), tmp_path / "out", tell=told.append)
    )
    assert sorted(one.id for one in rows_in(tmp_path / "out")) == [f"openai:{n}" for n in range(5)]
    assert [line.partition(", line ")[2][:1] for line in told] == ["2", "5"]
    assert "secret" not in "".join(told)
    assert report.faults == 2


def test_strict_stops_at_a_broken_line_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(many(1)[0].to_json() + b"{broken\n")
    with pytest.raises(InputFault, match="line 2"):
        curate(job([str(path)], write_recipe(tmp_path / "r.yaml", {"step": "branch"}), tmp_path / "out", strict=True))
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_rows_and_exports_can_be_mixed(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", many(3))
    export = write(tmp_path / "claude.json", [claude()])
    curate(job([rows, export], write_recipe(tmp_path / "r.yaml", {"step": "branch"}), tmp_path / "out"))
    assert {one.source for one in rows_in(tmp_path / "out")} == {"openai", "claude"}
    assert {one.id for one in rows_in(tmp_path / "out")} >= {"openai:0", "claude:k1"}


def test_an_input_without_rows_left_is_an_error_that_says_who_took_them(tmp_path: Path) -> None:
    with pytest.raises(NothingLeft, match="length 3"):
        run(tmp_path, many(3), {"step": "length", "chars_min": 9999})
    with pytest.raises(NothingLeft, match="no conversations"):
        run(tmp_path, [], {"step": "branch"})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{broken\n", r"1 could not be read \(broken_json 1\): .*evaluation\.jsonl, line 3: broken_json"),
        (
            b'{"id":"p","source":"openai","messages":[{"role":"user","content":"Why?"}],"provenance":{}}\n' * 2,
            r"2 could not be read \(\w+ 2\): .*evaluation\.jsonl, line 3: .*evaluation\.jsonl, line 4: ",
        ),
    ],
)
@pytest.mark.parametrize("on_found", ["drop", "stop"])
def test_an_evaluation_set_that_cannot_be_read_whole_fails_the_run(
    tmp_path: Path, line: bytes, told: str, on_found: str
) -> None:
    evaluation = write_rows(tmp_path / "evaluation.jsonl", many(2, source="claude"))
    with open(evaluation, "ab") as file:
        file.write(line)
    with pytest.raises(SettingsError, match=told):
        run(tmp_path, many(10), {"step": "leakage", "against": [evaluation], "on_found": on_found})


def test_what_an_evaluation_set_has_is_left_out_or_stops_the_run(tmp_path: Path) -> None:
    rows = many(10)
    evaluation = write_rows(tmp_path / "evaluation.jsonl", [rows[4].model_copy(update={"id": "other"})])
    report = run(tmp_path, rows, {"step": "leakage", "against": [evaluation]})
    assert dict(report.steps)["leakage"].reasons == Counter(exact=1)
    assert "openai:4" not in {one.id for one in rows_in(tmp_path / "out")}
    with pytest.raises(LeakFound, match="exact 1"):
        run(tmp_path, rows, {"step": "leakage", "against": [evaluation], "on_found": "stop"})


class Killed(BaseException):
    """The process is gone."""


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps of every row pass that is run from now on."""
    passes: list[str] = []
    before = RowPass.__call__

    def call(self: RowPass, shard: Any) -> dict[str, Any]:
        passes.append(",".join(step.title for step in self.steps))
        return before(self, shard)

    monkeypatch.setattr(RowPass, "__call__", call)
    return passes


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.dataset.curate.reading.SHARD_BYTES", 2000)
    steps: list[dict[str, Any]] = [{"step": "personal", "names": "off"}, {"step": "duplicates"}, {"step": "length"}]
    run(tmp_path, mixed(), *steps, out="whole")
    passes = counted(monkeypatch)
    once = RowPass.__call__

    def dies(self: RowPass, shard: Any) -> dict[str, Any]:
        if self.steps[0].title == "length" and shard.number == 3:
            raise Killed
        return once(self, shard)

    with monkeypatch.context() as patch:
        patch.setattr(RowPass, "__call__", dies)
        with pytest.raises(Killed):
            run(tmp_path, mixed(), *steps, out="killed")
    assert not (tmp_path / "killed" / "manifest.json").exists()
    passes.clear()
    run(tmp_path, mixed(), *steps, out="killed")
    assert "personal" not in passes
    assert 0 < len(passes) < len(list((tmp_path / "killed" / ".work").glob("03-*/*.jsonl")))
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_a_changed_recipe_begins_at_the_first_step_that_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = counted(monkeypatch)
    first = [{"step": "personal", "names": "off"}, {"step": "duplicates"}]
    run(tmp_path, mixed(), *first, {"step": "length"})
    assert passes == ["personal", "length"]
    passes.clear()
    run(
        tmp_path,
        mixed(),
        {"step": "personal", "names": "off"},
        {"step": "duplicates"},
        {"step": "length", "chars_min": 9},
    )
    assert passes == ["length"]
    assert len(list((tmp_path / "out" / ".work").glob("[0-9]*"))) == 4


@pytest.mark.parametrize("change", ["input", "list", "seed"])
def test_whatever_a_step_depends_on_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    words = tmp_path / "words.txt"
    words.write_text("never said")
    step = {"step": "refusals", "phrases": str(words)}
    run(tmp_path, mixed(), step)
    passes = counted(monkeypatch)
    if change == "list":
        words.write_text("I'm sorry")
    run(tmp_path, mixed()[: 42 if change == "input" else None], step, seed=2 if change == "seed" else 1)
    assert passes == ["refusals"]


def test_a_set_is_not_touched_by_a_run_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, mixed(), {"step": "branch"})
    before = tree(tmp_path / "out")

    def full(*given: Any) -> None:
        write_report(*given)
        raise OSError("no space left on device")

    monkeypatch.setattr("train.dataset.curate.pipeline.write_report", full)
    with pytest.raises(OSError, match="no space"):
        run(tmp_path, mixed(), {"step": "length"})
    assert tree(tmp_path / "out") == before


def test_what_is_written_is_for_its_owner_alone(tmp_path: Path) -> None:
    run(tmp_path, mixed(), {"step": "branch"})
    for path in (tmp_path / "out" / "data", tmp_path / "out" / ".work", *(tmp_path / "out" / "data").iterdir()):
        assert path.stat().st_mode & 0o077 == 0
