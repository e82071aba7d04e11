"""Which served answers can be scored token for token on the training side."""

from __future__ import annotations

import pytest

from tests.unit.train.dataset.formats.models import chat
from train.evaluate.agreement import AgreementResult, Compared, as_scored
from train.evaluate.served import Said

PROMPT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def said(*tokens: str) -> Said:
    return Said("".join(tokens), list(tokens), [-0.5] * len(tokens), True)


def test_the_answers_own_tokens_are_scored_and_the_prompts_are_not() -> None:
    found = as_scored(chat(), PROMPT, said("is", " Pa"))
    assert found is not None
    assert sum(found.learned) == 2 and found.learned[-2:] == [True, True]
    assert found.text == PROMPT + "is Pa"


@pytest.mark.parametrize(
    "tokens",
    [
        ("i", "s"),  # The tokenizer has one token for it.
        ("is Pa",),
        ("🌟",),  # A character of several tokens.
        (),
    ],
)
def test_an_answer_in_other_tokens_is_not_scored(tokens: tuple[str, ...]) -> None:
    assert as_scored(chat(), PROMPT, said(*tokens)) is None


def test_parts_of_a_character_are_not_taken_for_characters_that_stand_for_them() -> None:
    parts = ["\ufffd"] * 4
    assert as_scored(chat(), PROMPT, Said("🌟", parts, [-0.5] * 4, True)) is None


def test_only_what_could_be_scored_counts_for_the_distance() -> None:
    result = AgreementResult(
        [Compared("q", "a", "a ", [0.1, 0.3]), Compared("q", "🌟", "🌟", None), Compared("q", "b", "c", [0.2])]
    )
    assert result.share == pytest.approx(2 / 3)
    assert result.distance == pytest.approx(0.2) and result.tokens == 3
