"""Perplexity's threads, as JSON and as Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.train.dataset.exports.samples import (
    PERPLEXITY_EXPORT,
    PERPLEXITY_PAGE,
    PERPLEXITY_THREAD,
    PERPLEXPORT,
    PPLXPORT,
    events,
    said,
    write,
)
from train.dataset.exports.problems import Reason


@pytest.mark.parametrize(
    ("content", "first", "last"),
    [
        (PERPLEXITY_THREAD, "Capital of France?", "Paris."),
        (PERPLEXITY_EXPORT, "Capital of Italy?", "Rome."),
        (PERPLEXITY_PAGE, "Capital of France?", "Rome."),
        (PERPLEXPORT, "Capital of France?", "Yes."),
        (PPLXPORT, "Capital of France?", "Paris."),
        (PPLXPORT.replace("\n", "\r\n"), "Capital of France?", "Paris."),
        ("\ufeff" + PERPLEXITY_PAGE, "Capital of France?", "Rome."),
    ],
)
def test_every_form_gives_questions_and_answers_without_citations(
    tmp_path: Path, content: object, first: str, last: str
) -> None:
    (row,), problems = events(write(tmp_path / "thread", content))
    assert problems == []
    assert (row.source, said(row)[0], said(row)[-1]) == ("perplexity", ("user", first), ("assistant", last))


def test_a_rule_and_a_heading_within_an_answer_part_nothing_where_sources_do(tmp_path: Path) -> None:
    (row,), _ = events(write(tmp_path / "thread.md", PERPLEXITY_PAGE))
    assert [role for role, _ in said(row)] == ["user", "assistant"] * 2
    assert "a heading of the answer" in (row.messages[1].content or "")


def test_old_threads_have_the_answer_in_the_last_of_the_steps(tmp_path: Path) -> None:
    final = {"step_type": "FINAL", "content": {"answer": json.dumps({"answer": "Paris [1].", "web_results": []})}}
    steps = json.dumps([{"step_type": "SEARCH_WEB"}, final])
    (row,), _ = events(write(tmp_path / "t.json", {"entries": [{"query_str": "Capital?", "text": steps}]}))
    assert said(row)[1] == ("assistant", "Paris.")


def test_the_model_and_the_ids_of_a_thread_are_kept(tmp_path: Path) -> None:
    (row,), _ = events(write(tmp_path / "t.json", PERPLEXITY_THREAD))
    assert (row.id, row.model, row.provenance.title) == ("perplexity:p1", "pplx_pro", "Capital")


def test_markdown_without_a_question_is_not_recognised(tmp_path: Path) -> None:
    text = PERPLEXITY_PAGE.partition("\n")[0] + "\n\nno heading"
    rows, (problem,) = events(write(tmp_path / "t.md", text))
    assert rows == []
    assert problem.reason is Reason.UNKNOWN_SHAPE


def test_other_markdown_is_not_recognised(tmp_path: Path) -> None:
    _, (problem,) = events(write(tmp_path / "README.md", "# Me\n\nA project.\n"))
    assert problem.reason is Reason.NOT_RECOGNISED
