"""Which served answers can be scored token for token on the training side."""

from __future__ import annotations

import math

import pytest

from tests.unit.train.dataset.formats.models import chat
from train.evaluate.agreement import AgreementResult, Compared, as_scored, is_same
from train.evaluate.served import Said
from train.evaluate.stack import written

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
        [
            Compared("q", "a", "a ", True, [0.1, 0.3]),
            Compared("q", "🌟", "🌟", True, None),
            Compared("q", "b", "c", False, [0.2]),
        ]
    )
    assert result.share == pytest.approx(2 / 3)
    assert result.distance == pytest.approx(0.2) and result.tokens == 3


def test_a_distance_of_a_few_answers_out_of_many_is_none() -> None:
    one, other = Compared("q", "a", "a", True, [0.1]), Compared("q", "🌟", "🌟", True, None)
    assert AgreementResult([one, other]).distance == pytest.approx(0.1)
    assert math.isnan(AgreementResult([one, other, other]).distance)
    assert math.isnan(AgreementResult([other]).distance)


def test_answers_are_the_same_token_for_token() -> None:
    model = chat()
    served = said("is", " Pa")
    scored = as_scored(model, PROMPT, served)
    assert scored is not None
    own = [token for token, wanted in zip(scored.input_ids, scored.learned, strict=True) if wanted]
    end = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert is_same(written(model, [], [*own, end, 0], [end]), served, scored)
    assert is_same(written(model, [], own, [end]), served, scored)
    # The same text in other tokens, and other white space, are other answers.
    assert not is_same(
        written(model, [], [*model.tokenizer.convert_tokens_to_ids(["i", "s"]), own[1]], [end]), served, scored
    )
    assert not is_same(
        written(model, [], [*own, *model.tokenizer.convert_tokens_to_ids(["Ċ"])], [end]), served, scored
    )


def test_answers_whose_tokens_cannot_be_told_are_the_same_by_their_text() -> None:
    model, served = chat(), said("🌟")
    same, other = (
        written(model, [], model.tokenizer.encode(text, add_special_tokens=False), [0]) for text in (" 🌟", "🌙")
    )
    assert is_same(same, served, None) and not is_same(other, served, None)
    cut = written(model, [], model.tokenizer.encode("🌟🌟", add_special_tokens=False)[:-1], [0])
    assert cut.text.endswith("\ufffd") and is_same(cut, served, None)
