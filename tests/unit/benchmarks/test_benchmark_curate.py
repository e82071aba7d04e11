"""The benchmark of curation: its rows and their truth, its scores, its report."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
import pytest

from benchmarks import curate, curate_data, curate_rivals, curate_truth, tree
from benchmarks.curate_data import Planter
from benchmarks.errors import BenchmarkError
from train.dataset.duplicates import DuplicateSettings
from train.dataset.duplicates.sketches import jaccard
from train.dataset.duplicates.text import shingles
from train.dataset.rows import Row

PLANTER = Planter()
ROWS = list(PLANTER.rows(0, 2000))


def test_a_row_is_the_same_whenever_and_wherever_it_is_made(tmp_path: Path) -> None:
    lines = [row.line() for row in ROWS[:300]]
    assert [Planter().row(number).line() for number in (0, 137, 299)] == [lines[0], lines[137], lines[299]]
    [file] = curate_data.write(tmp_path, 300)
    assert file.read_bytes().splitlines(keepends=True) == lines
    assert all(Row.from_json(line) for line in lines)


def test_copies_are_as_similar_as_the_truth_says() -> None:
    settings = DuplicateSettings()

    def similarity(one: curate_data.Planted, other: curate_data.Planted) -> float:
        return jaccard(*(shingles(orjson.loads(row.line()), settings) for row in (one, other)))

    copies = [(row.kind, similarity(row, PLANTER.row(row.of))) for row in ROWS if row.of != row.number]
    assert {kind for kind, _ in copies} == {"exact", "near", "distant"}
    assert all(value == 1 for kind, value in copies if kind == "exact")
    assert all(value > settings.threshold for kind, value in copies if kind == "near")
    assert all(value < settings.threshold for kind, value in copies if kind == "distant")
    templates = [row for row in ROWS if row.kind == "template"][:60]
    pairs = [(one, other) for place, one in enumerate(templates) for other in templates[:place]]
    values = [similarity(one, other) for one, other in pairs]
    assert 0.3 < max(values) < settings.threshold


def test_groups_are_scored_against_the_originals() -> None:
    perfect = [row.of if row.kind in ("exact", "near") else row.number for row in ROWS]
    score = curate_truth.duplicates(perfect)
    assert (score.recall(), score.precision) == (1, 1)
    nothing = curate_truth.duplicates(list(range(len(ROWS))))
    assert (nothing.recall(), nothing.precision) == (0, 1)
    wrong = curate_truth.duplicates([0] * len(ROWS))
    assert wrong.recall() == 1
    assert wrong.precision < 0.01


def test_personal_data_is_scored_by_what_is_left(tmp_path: Path) -> None:
    untouched = b"".join(row.line() for row in ROWS)
    (tmp_path / "000.jsonl").write_bytes(untouched)
    found, survived = curate_truth.personal(len(ROWS), tmp_path)
    assert (found.recall(), found.precision, survived.recall()) == (0, 1, 1)
    for row in ROWS:
        for _, value in row.personal:
            untouched = untouched.replace(value.encode(), b"[X]")
    (tmp_path / "000.jsonl").write_bytes(untouched)
    found, survived = curate_truth.personal(len(ROWS), tmp_path)
    assert (found.recall(), found.precision) == (1, 1)


def test_the_report_has_every_bar_and_every_point() -> None:
    samples = [
        curate.Sample(step, workers, rows, rows / (1000 * workers), 500 << 20)
        for step in ("duplicates", "personal")
        for workers, rows in ((1, 100), (2, 100), (2, 10), (1, 50))
    ]
    samples.append(curate.Sample(curate_rivals.DATASKETCH, 1, 50, 0.5, 1 << 30))
    score = curate_truth.duplicates(list(range(100)))
    results = curate.Results(samples, {"duplicates": score})
    text = curate.markdown({"machine": "one"}, results, 100)
    assert "| duplicates: two workers over one | 2.00 | 2.00..2.00 | at least 1.6 | met |" in text
    assert "| personal: memory over that at a tenth of the rows | 1.00 | 1.00..1.00 | at most 1.25 | met |" in text
    assert "| near duplicates: recall | 0.00 | 0.00..0.00 | at least 0.95 | missed |" in text
    assert "| rows/s over datasketch 2.0.0, 50 rows, workers: 1 | 10.0 |" in text
    assert "| personal | 2 | 100 | 2000 |" in text
    written = orjson.loads(orjson.dumps(curate.data({"machine": "one"}, results)))
    assert written["scores"]["duplicates"]["planted"] == dict(score.planted)
    assert len(written["samples"]) == 9


def test_the_memory_of_children_counts(tmp_path: Path) -> None:
    child = "import time; data = bytearray(b'x' * (200 << 20)); time.sleep(2)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('done')"
    ran = tree.run([sys.executable, "-c", code], tmp_path / "log")
    assert ran.output == "done\n"
    assert ran.peak > 200 << 20


def test_a_command_that_fails_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="log"):
        tree.run([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log")


def test_text_dedup_says_which_python_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 11))
    with pytest.raises(BenchmarkError, match=r"Python 3\.12"):
        curate_rivals._python("/no/such/python")
