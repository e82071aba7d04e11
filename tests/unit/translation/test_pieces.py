"""What is kept in a text, how it goes through a model, where texts are cut, and what is found wrong."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.handlers.translation.checks import Terms, faults, has_term
from serve.handlers.translation.inline import Syntax, kept, pieces
from serve.handlers.translation.languages import find_language, languages
from serve.handlers.translation.masks import masked
from serve.handlers.translation.memory import Memory
from serve.handlers.translation.sentences import cut, sentences
from serve.protocol.translation import Pair

SYNTAXES = st.sampled_from(["text", "markdown", "html"])
_KEPT = (
    "{name}",
    "%s",
    "{{x}}",
    "$VAR",
    "<b>",
    "</b>",
    "`code`",
    "**",
    "_",
    "[",
    "](a.b)",
    "😀",
    "&amp;",
    "https://a.b/c",
)
_OTHERS = ("word", " ", "{0}", "{", "}", "é", "中文", "1,000", "\\*", ". ", "。", "%", "<", ">")
MARKED = st.lists(st.sampled_from(_KEPT + _OTHERS), max_size=30).map("".join)


def test_a_text_may_have_thousands_of_things_to_keep() -> None:
    text = "a %s " * 1200 + "b"
    found = masked(text, "text")
    assert len(found.held) == 1200 and not found.missing(found.text) and not found.invented(found.text)
    assert found.restored(found.text) == found.around(found.between()) == text


@given(MARKED, SYNTAXES)
def test_pieces_are_the_text(text: str, syntax: Syntax) -> None:
    assert "".join(piece.text for piece in pieces(text, syntax)) == text


@given(MARKED, SYNTAXES)
def test_a_model_that_repeats_a_text_gives_it_back(text: str, syntax: Syntax) -> None:
    found = masked(text, syntax)
    assert found.missing(found.text) == []
    if syntax != "html":  # There, a bare `<` comes back as a reference.
        assert found.restored(found.text) == text
        assert found.around(found.between()) == text


@given(MARKED, SYNTAXES, st.integers(1, 40))
def test_cut_texts_are_the_text_and_what_is_kept_stays_whole(text: str, syntax: Syntax, limit: int) -> None:
    parts = cut(text, syntax, limit)
    assert "".join(parts) == text
    assert [one for part in parts for one in kept(part, syntax) if one.startswith("http")] == [
        one for one in kept(text, syntax) if one.startswith("http")
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{name} %s %d %1$s %(a)s {{ b.c }} ${x} $HOME {0} %@ %%", 11),
        ("100 % of 5% is 5 $ or {not one", 0),
        ("%dms %sKB %.1fGB %zu {0:>8} {t:%H:%M} { name } {user['id']} {n, plural, one {# file} other {# files}}", 9),
        ("a 100%discount, 50% sure, 20% of it, {not} and {some words} of it", 1),
        ("a@b.example and https://a.b/c?d=e#f.", 2),
        ("👩‍🚀 🇩🇪 ✅", 3),
        ("<a href='x>y'>t</a> 1 < 2", 2),
    ],
)
def test_what_is_kept_of_plain_text(text: str, found: int) -> None:
    assert len(kept(text, "text")) == found, kept(text, "text")


@pytest.mark.parametrize("syntax", ["html", "markdown", "text"])
def test_inline_code_is_kept_with_its_content(syntax: Syntax) -> None:
    assert kept("Use <code>git push</code> and <KBD>Ctrl</KBD>.", syntax) == [
        "<code>git push</code>",
        "<KBD>Ctrl</KBD>",
    ]


def test_sentences_end_where_people_end_them() -> None:
    text = "Dr. Smith went home. He slept! Did he? 今天很好。明天也好。 It costs 3.5 euros."
    assert [one.strip() for one in sentences(text, "text")] == [
        "Dr. Smith went home.",
        "He slept!",
        "Did he?",
        "今天很好。",
        "明天也好。",
        "It costs 3.5 euros.",
    ]


def kinds(text: str, answer: str, target: str = "de", terms: tuple[Pair, ...] = ()) -> list[str]:
    """What is wrong with an answer."""
    found = faults(masked(text, "text"), answer, terms, languages()["en"], languages()[target])
    return [fault.type for fault in found]


@pytest.mark.parametrize(
    ("text", "answer", "target", "wrong"),
    [
        ("It costs 1,200 euros.", "Es kostet 1.200 Euro.", "de", []),
        ("It costs 12 euros.", "Es kostet viele Euro.", "de", ["number"]),
        ("In 2020 it was so.", "في ٢٠٢٠ كان كذلك.", "ar", []),
        ("He is a good man.", "He is a good man.", "de", ["untranslated"]),
        ("He is a good man.", "He is a good man indeed.", "ru", ["untranslated"]),
        ("Paris", "Paris", "fr", []),
        ("Hello there.", "", "de", ["untranslated"]),
        ("Hello there.", "¡¡¡¡¡¡¡¡¡¡¡¡¡¡¡¡ Hola", "es", ["untranslated"]),
        ("Hello there.", "so und " * 11, "de", ["untranslated"]),
        ("Hello.", " ".join(f"so{letter} weiter" for letter in "abcdefghij"), "de", ["length"]),
        ("Give {a} and %s to me.", "Gib {1} und {0}.", "de", []),
        ("Give {a} and %s to me.", "Gib {0} und {0}.", "de", ["placeholder", "placeholder"]),
        ("Give {a} to me.", "Gib {0} und {b}.", "de", ["placeholder"]),
    ],
)
def test_faults_are_found(text: str, answer: str, target: str, wrong: list[str]) -> None:
    assert kinds(text, answer, target) == wrong


def test_terms_are_words_of_their_own_and_the_longest_counts() -> None:
    terms = [Pair(source="net", target="Netz"), Pair(source="neural net", target="neuronales Netz")]
    assert Terms(terms).within("A neural net learns.") == [terms[1]]
    assert Terms(terms).within("The internet is down, the net is not.") == [terms[0]]
    assert has_term("我喜欢机器学习。", "机器学习") and has_term("Die Netzwerke", "Netz") and not has_term("", "x")


def test_many_terms_and_a_large_memory_take_no_time() -> None:
    text = " ".join(f"word{n}" for n in range(80))
    pairs = [Pair(source=text[n % 300 : n % 300 + 3 + n // 300], target="x") for n in range(10_000)]
    terms, memory = Terms(pairs[:1000]), Memory(pairs)
    before = time.thread_time()
    for _ in range(10):
        terms.within(text)
        memory.nearest(text, 3)
    assert time.thread_time() - before < 3


def test_a_memory_shows_the_nearest_last() -> None:
    memory = Memory([Pair(source=s, target=s.upper()) for s in ("The cat sleeps.", "The cat sleeps here.", "Rain.")])
    assert [one.source for one in memory.nearest("The cat sleeps there.", 2)] == [
        "The cat sleeps.",
        "The cat sleeps here.",
    ]
    assert memory.nearest("Completely different words", 3) == []
    assert memory.exact("  the CAT sleeps. ") is not None and Memory([]).nearest("x", 3) == []


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("German", "de"),
        ("GERMAN", "de"),
        ("de-AT", "de"),
        ("deu", "de"),
        ("zh-Hant-HK", "zh_tw"),
        ("zh_TW", "zh_tw"),
        ("zh-CN", "zh"),
        ("pt-BR", "pt"),
        ("norwegian bokmal", "nb"),
        ("Ta’izzi-Adeni Arabic", "acq"),
        ("cmn", "zh"),
        ("fil", "tl"),
        ("als", "sq"),
    ],
)
def test_a_language_is_found_by_any_of_its_names(given: str, code: str) -> None:
    assert find_language(given, "target_lang").code == code


def test_every_language_is_found_by_code_name_and_iso_code() -> None:
    assert len(languages()) == 92
    for code, language in languages().items():
        assert {find_language(one, "x").code for one in (code, language.name, language.iso3)} == {code}
