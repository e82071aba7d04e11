"""Splits: by conversation, stable, and never with what a model wrote in what is judged by."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.train.dataset.formats.rows import answer, chat, row, user
from train.dataset.curate import load_recipe
from train.dataset.formats import SPLITS, SplitSettings, group_of, placed, split_of
from train.dataset.formats.split import question_of

THIRDS = SplitSettings(train=1, validation=1, test=1)


def test_shares_follow_the_weights() -> None:
    counts = Counter(
        split_of(f"row {number}", SplitSettings(train=8, validation=1, test=1)) for number in range(5000)
    )
    assert counts["train"] == pytest.approx(4000, rel=0.05)
    assert counts["validation"] == pytest.approx(500, rel=0.15)
    assert counts["test"] == pytest.approx(500, rel=0.15)


@given(st.text(), st.integers(0, 2**31), st.floats(0, 10), st.floats(0, 10))
def test_nothing_goes_where_the_weight_is_nothing(group: str, seed: int, validation: float, test: float) -> None:
    settings = SplitSettings(train=1, validation=validation, test=test, seed=seed)
    assert getattr(settings, split_of(group, settings)) > 0


def test_where_a_row_goes_is_the_same_in_every_process_and_version() -> None:
    places = " ".join(split_of(name, THIRDS) for name in "abcdef")
    assert places == "train train test train test validation"


def test_another_seed_shares_out_otherwise() -> None:
    other = THIRDS.model_copy(update={"seed": 1})
    names = [f"row {number}" for number in range(50)]
    assert [split_of(name, THIRDS) for name in names] != [split_of(name, other) for name in names]


def test_branches_of_a_conversation_stay_together() -> None:
    last, other = chat("chatgpt:c1"), chat("chatgpt:c1#m#7", provenance={"branch": "m#7"})
    assert group_of(other) == group_of(last) == "chatgpt:c1"


def test_near_duplicates_stay_together_with_all_their_branches() -> None:
    clusters = {"openai:2": "openai:1", "chatgpt:c1": "openai:1"}
    rows = [chat("openai:1"), chat("openai:2"), chat("chatgpt:c1"), chat("chatgpt:c1#m", provenance={"branch": "m"})]
    assert {group_of(row, clusters) for row in rows} == {"openai:1"}


@pytest.mark.parametrize("number", range(12))
def test_what_a_model_wrote_is_trained_on_only_where_its_original_is(number: int) -> None:
    original = chat(f"openai:{number}")
    made = {"kind": "paraphrase", "model": "m", "of": original.id}
    copy = chat(f"{original.id}~paraphrase-1", provenance={"augmented": made})
    expected = "train" if placed(original, THIRDS) == "train" else None
    assert placed(copy, THIRDS) == expected


def test_the_copy_of_a_branch_stays_with_its_conversation() -> None:
    made = {"kind": "paraphrase", "model": "m", "of": "chatgpt:c1#m"}
    copy = chat("chatgpt:c1#m~paraphrase-1", provenance={"augmented": made, "branch": "m"})
    assert group_of(copy) == "chatgpt:c1"


@pytest.mark.parametrize("weights", [{"train": 0}, {"validation": -1}, {"train": "1"}, {"dev": 1}])
def test_weights_that_make_no_sense_are_refused(weights: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SplitSettings.model_validate(weights)


BY_QUESTION = THIRDS.model_copy(update={"by": "question"})


@pytest.mark.parametrize("number", range(12))
def test_by_question_the_turns_of_a_chat_that_are_stored_one_by_one_stay_together(number: int) -> None:
    asked = [user(f"Where is land {number}?"), answer("In the north.")]
    first = row(*asked, id="groupqwen:1")
    later = row({"role": "system", "content": "Be kind."}, *asked, user("How far?"), answer("Far."), id="groupqwen:2")
    again = row(user(f"where is  LAND {number}"), answer("I do not know."), id="groupqwen:3")
    assert len({placed(one, BY_QUESTION) for one in (first, later, again)}) == 1


def test_by_question_other_questions_go_their_own_ways() -> None:
    emoji, other = row(user("🙂?"), answer("a")), row(user("🙁?"), answer("a"))
    assert question_of(emoji) != question_of(other)
    places = Counter(placed(row(user(f"Where is land {n}?"), answer("Here.")), BY_QUESTION) for n in range(300))
    assert all(80 < places[name] < 120 for name in SPLITS)
    # The same id, as that of a conversation, is no reason.
    assert {placed(row(user(f"{n}?"), answer("a"), id="openai:1"), BY_QUESTION) for n in range(20)} == set(SPLITS)


def test_by_question_what_a_model_wrote_is_dropped_since_its_question_may_be_another() -> None:
    made = {"kind": "paraphrase", "model": "m", "of": "openai:1"}
    copies = [row(user(f"{n}?"), answer("a"), provenance={"augmented": made}) for n in range(12)]
    assert {placed(copy, BY_QUESTION) for copy in copies} == {None}


def test_the_loop_that_ships_splits_by_question() -> None:
    root = Path(__file__).parents[5]
    assert load_recipe(str(root / "configs" / "curate" / "loop.yaml")).recipe.split.by == "question"
