"""What a model wrote: what has to stay stays, the language is right, and it is not the same."""

from __future__ import annotations

import pytest

from train.dataset.augment.checks import Refused, has_words, pieces_in, refused
from train.dataset.augment.settings import AugmentSettings

PARAPHRASE = AugmentSettings(kind="paraphrase")
QUESTION = "How do I reset the password of my account when I have lost my phone?"


@pytest.mark.parametrize(
    ("original", "written", "expected"),
    [
        (QUESTION, "My phone is gone; in which way can I set a new password for my account?", None),
        (QUESTION, "", Refused.EMPTY),
        (QUESTION, QUESTION.upper().replace("?", "!"), Refused.IDENTICAL),
        (QUESTION, "Reset?", Refused.LENGTH),
        (QUESTION, QUESTION.replace("my", "all of my") * 4, Refused.LENGTH),
        (QUESTION, "Wie setze ich das Passwort meines Kontos zurück, wenn mein Telefon weg ist?", Refused.LANGUAGE),
        ("Mail [EMAIL_1] about {name}, please.", "Please write to [EMAIL_1] on {name}.", None),
        ("Mail [EMAIL_1] about {name}, please.", "Please write to [EMAIL_2] on {name}.", Refused.PIECES),
        ("Run `ls -l` in there, then stop.", "In there, use `ls -l` and stop after.", None),
        ("Run `ls -l` in there, then stop.", "In there, use `ls -la` and stop after.", Refused.PIECES),
        ("Fix it:\n```py\nx = 1\n```\n", "Mend this:\n```py\nx = 1\n```\n", None),
        ("Fix it:\n```py\nx = 1\n```\n", "Mend this:\n```py\nx = 2\n```\n", Refused.PIECES),
        ("See https://a.example/b?c=1 first", "First look at https://a.example/b?c=1", None),
        ("See https://a.example/b?c=1 first", "First look at https://a.example/b", Refused.PIECES),
        ("Is <b>this</b> bold?", "Would <b>this</b> be bold?", None),
        ("Is <b>this</b> bold?", "Would this be bold?", Refused.PIECES),
    ],
)
def test_a_paraphrase_is_taken_or_refused_with_the_reason(
    original: str, written: str, expected: Refused | None
) -> None:
    assert refused(original, written, PARAPHRASE, None) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Wie setze ich das Passwort meines Kontos zurück, wenn ich mein Telefon verloren habe?", None),
        ("Comment réinitialiser le mot de passe de mon compte si j'ai perdu mon téléphone ?", Refused.LANGUAGE),
        ("How might I set a new password for the account, now that my phone is lost?", Refused.LANGUAGE),
    ],
)
def test_a_translation_is_in_the_language_that_was_asked_for(written: str, expected: Refused | None) -> None:
    settings = AugmentSettings(kind="translation", languages={"de": "German"})
    assert refused(QUESTION, written, settings, "de") == expected


def test_scripts_that_need_few_characters_are_not_too_short() -> None:
    settings = AugmentSettings(kind="translation", languages={"zh": "Chinese"})
    assert refused(QUESTION, "我的手机丢了。我该怎样重置账户的密码呢。请告诉我。", settings, "zh") is None


def test_code_of_several_lines_and_placeholders_of_many_kinds_are_pieces() -> None:
    text = "~~~\na\n\nb\n~~~\nDear {{ user }}, pay %d to ${ACCOUNT} or a.b@c.example [NAME_2] {0}."
    assert set(pieces_in(text)) == {
        "~~~\na\n\nb\n~~~",
        "{{ user }}",
        "%d",
        "${ACCOUNT}",
        "a.b@c.example",
        "[NAME_2]",
        "{0}",
    }


@pytest.mark.parametrize(("text", "expected"), [("```\ncode\n```", False), ("", False), ("42?", False), ("Hi", True)])
def test_only_words_can_be_said_otherwise(text: str, expected: bool) -> None:
    assert has_words(text) is expected
