"""This group's own conversations: feedback, corrections, several choices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.train.dataset.exports.samples import GROUP, said
from train.dataset.exports import Group, Place, Readers, Reading, ReadOptions
from train.dataset.exports.files import read_value
from train.dataset.exports.group import FeedbackFilter
from train.dataset.rows import Row


def rows(
    *feedback: dict[str, Any], wanted: FeedbackFilter | None = None, every_branch: bool = False, **fields: Any
) -> list[Row]:
    reading = Reading(options=ReadOptions(every_branch=every_branch), readers=Readers(group=Group(wanted)))
    found = list(read_value(GROUP | {"feedback": list(feedback)} | fields, Place("", number=1), reading))
    assert all(isinstance(one, Row) for one in found)
    return [one for one in found if isinstance(one, Row)]


UP, DOWN = {"choice": 0, "rating": "up"}, {"choice": 0, "rating": "down"}
CORRECTED = {"choice": 0, "correction": "Paris."}
COMMENT = {"choice": 0, "comment": "hm"}
CHOICES = [{"index": index, "message": {"role": "assistant", "content": f"Answer {index}."}} for index in range(3)]


def test_a_correction_takes_the_place_of_the_answer_which_becomes_the_rejected_one() -> None:
    (row,) = rows(DOWN, {"choice": 0, "correction": "Lyon."}, CORRECTED)
    assert said(row)[-1] == ("assistant", "Paris.")
    assert row.rejected is not None
    assert row.rejected[0].content == "London."
    assert row.provenance.feedback is not None
    assert (row.provenance.feedback.rating, row.provenance.feedback.corrected) == ("down", True)


@pytest.mark.parametrize(
    ("feedback", "passed"),
    [
        ([], {None}),
        ([UP], {None, "good", "any"}),
        ([DOWN], {None, "bad", "any"}),
        ([UP, DOWN], {None, "bad", "any"}),
        ([DOWN, UP], {None, "good", "any"}),
        ([COMMENT], {None, "any"}),
        ([DOWN, CORRECTED], {None, "good", "corrected", "any"}),
        ([{**UP, "choice": 7}], {None}),
    ],
)
def test_the_latest_feedback_says_which_filter_a_conversation_passes(
    feedback: list[dict[str, Any]], passed: set[FeedbackFilter | None]
) -> None:
    filters: list[FeedbackFilter | None] = [None, "good", "bad", "corrected", "any"]
    assert {wanted for wanted in filters if rows(*feedback, wanted=wanted)} == passed


def test_of_several_choices_the_best_liked_is_taken() -> None:
    assert said(rows(choices=CHOICES)[0])[-1][1] == "Answer 0."
    assert said(rows({"choice": 2, "rating": "up"}, choices=CHOICES)[0])[-1][1] == "Answer 2."
    liked, corrected = {"choice": 2, "rating": "up"}, {"choice": 1, "correction": "Paris."}
    assert said(rows(liked, corrected, choices=CHOICES)[0])[-1][1] == "Paris."


def test_every_choice_is_a_branch_when_asked_for() -> None:
    found = rows({"choice": 1, "rating": "up"}, choices=CHOICES, every_branch=True)
    assert [row.id for row in found] == [
        "groupqwen:chatcmpl-1",
        "groupqwen:chatcmpl-1#0",
        "groupqwen:chatcmpl-1#2",
    ]


def test_tools_and_thoughts_of_the_request_and_answer_are_kept() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    request = {**GROUP["request"], "tools": [tool]}
    message = {"role": "assistant", "content": "Paris.", "reasoning_content": "Hm."}
    (row,) = rows(request=request, choices=[{"index": 0, "message": message}])
    assert row.tools == (tool,)
    assert row.messages[-1].reasoning_content == "Hm."
