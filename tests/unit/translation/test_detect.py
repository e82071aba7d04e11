"""Detection on a labelled set of three sentences in each of the 92 languages, written for these tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from serve.handlers.translation.detect import detect
from serve.handlers.translation.languages import languages

ROWS = [
    line.split("\t") for line in Path(__file__).with_name("detection.tsv").read_text(encoding="utf-8").splitlines()
]


def test_the_set_has_three_sentences_of_every_language() -> None:
    assert Counter(code for code, _ in ROWS) == dict.fromkeys(languages(), 3)


def test_most_of_the_set_is_told_right(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [(code, found) for code, text in ROWS if (found := detect(text).code) != code]
    right = Counter(code for code, _ in ROWS) - Counter(code for code, _ in wrong)
    with capsys.disabled():
        print(f"\ndetection: {len(ROWS) - len(wrong)} of {len(ROWS)} right; wrong: {wrong}")  # noqa: T201 - it is to be seen
    assert len(wrong) <= 0.06 * len(ROWS)
    assert set(right) == set(languages()), "some language is never told"


@pytest.mark.parametrize("text", ["", " \n", "12345", "😀", "{name} %s https://a.b/c", "`code`", "..."])
def test_a_text_without_words_has_no_language(text: str) -> None:
    found = detect(text)
    assert (found.code, found.confidence) == (None, 0.0) and found.note


def test_a_short_text_is_less_sure_and_says_so() -> None:
    short, long = detect("Gut so"), detect("Das ist wirklich sehr gut so, und ich freue mich darauf.")
    assert short.confidence < long.confidence and short.note == "the text is too short to be sure"
    assert long.code == "de" and long.note is None


def test_a_mixed_text_says_what_it_is_made_of() -> None:
    found = detect("This is a long English sentence about the weather. 今天的天气很好，我们一起去公园散步。")
    assert set(found.shares) == {"en", "zh"} and found.note is not None and "mixed" in found.note
    assert round(sum(found.shares.values()), 2) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("這個國家的歷史", "zh_tw"),
        ("这个国家的历史", "zh"),
        ("我哋唔知佢喺邊", "yue"),
        ("日本の歴史を学ぶ", "ja"),
        ("大家好", "zh"),
    ],
)
def test_kinds_of_chinese_are_told_apart(text: str, code: str) -> None:
    assert detect(text).code == code


def test_code_and_addresses_do_not_count() -> None:
    text = "Bitte öffnen Sie die Datei: `the quick brown fox jumps over the lazy dog` https://example.com/the/of/and"
    assert detect(text).code == "de"


def test_a_huge_text_is_told_by_its_beginning() -> None:
    assert detect("Das ist ein Satz. " * 50_000).code == "de"
