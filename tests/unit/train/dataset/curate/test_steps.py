"""Each row step: what it keeps, changes and drops, and why."""

# ruff: noqa: RUF001 - the punctuation is meant

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.settings.errors import SettingsError
from tests.unit.train.dataset.curate.samples import ANSWER, judged, reason, row
from train.dataset.curate.outcome import Changed
from train.dataset.curate.registry import STEPS
from train.dataset.curate.steps.language import language_of
from train.dataset.curate.steps.phrases import PhraseList, normal
from train.dataset.curate.steps.repetition import repeated_share
from train.dataset.curate.text import parts, words
from train.dataset.rows import FunctionCall, Message, Provenance, Row, ToolCall

GERMAN = "Flüsse entstehen in den Bergen, wo Regen und Schnee in kleinen Bächen zusammenlaufen und ins Tal fließen."
CHINESE = "河流起源于山区，雨水和融化的雪在那里汇聚成小溪，然后一起流向大海。"
ARABIC = "تبدأ الأنهار في الجبال حيث تتجمع مياه الأمطار والثلوج الذائبة في جداول صغيرة ثم تجري إلى البحر."
FENCE = "```"

ROW_STEPS = [name for name, kind in STEPS.items() if hasattr(kind, "build")]


@pytest.mark.parametrize("step", ROW_STEPS)
@pytest.mark.parametrize(
    "answer", [ANSWER, GERMAN, CHINESE, ARABIC, "Yes.", "🙂 fine, thanks!", "- one\n- two\n- three"]
)
def test_a_good_answer_passes_every_step(step: str, answer: str) -> None:
    assert reason(judged(step, row("Tell me how rivers form, please.", answer))) is None


def test_another_branch_is_dropped_unless_all_are_wanted() -> None:
    other = row(provenance=Provenance(branch="b7"))
    assert reason(judged("branch", other)) == "other_branch"
    assert reason(judged("branch", other, keep="all")) is None


@pytest.mark.parametrize(("text", "code"), [(ANSWER, "en"), (GERMAN, "de"), (CHINESE, "zh"), (ARABIC, "ar")])
def test_the_language_is_told(text: str, code: str) -> None:
    assert language_of(row(text, text)).code == code


def test_only_allowed_languages_are_kept() -> None:
    assert reason(judged("language", row(GERMAN, GERMAN), allowed=["en"])) == "other_language"
    assert reason(judged("language", row(GERMAN, GERMAN), allowed=["en", "de"])) is None


def test_short_text_is_not_asked_for_its_language_and_does_what_the_recipe_says() -> None:
    short = row("Oui?", "Non.")
    assert reason(judged("language", short, allowed=["en"])) is None
    assert reason(judged("language", short, allowed=["en"], short="drop")) == "too_short_to_tell"


def test_code_tells_nothing_of_the_language() -> None:
    code = row("?", f"{FENCE}python\nfor apple in orchard: print(apple.name, apple.weight)\n{FENCE}")
    assert language_of(code).letters == 0
    assert reason(judged("language", code, short="drop")) == "too_short_to_tell"


def test_an_unsure_language_does_what_the_recipe_says() -> None:
    odd = row("zxq vbn qwrt plkj mnbv", "xcvb qwpo zmnx vbla skdj")
    assert reason(judged("language", odd, allowed=["en"], confidence=0.99)) is None
    assert reason(judged("language", odd, allowed=["en"], confidence=0.99, unsure="drop")) == "unsure"


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"messages_max": 1, "messages_min": 1}, "too_many_messages"),
        ({"messages_min": 3}, "too_few_messages"),
        ({"chars_min": 1000}, "too_short"),
        ({"chars_max": 50}, "too_long"),
        ({"answer_chars_min": 500}, "short_answer"),
        ({"answer_chars_max": 100}, "long_answer"),
    ],
)
def test_each_bound_of_length_has_its_reason(settings: dict[str, int], found: str) -> None:
    assert reason(judged("length", row(), **settings)) == found


def test_tokens_are_counted_by_the_tokenizer_that_is_named(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    eight = row("one two three four", "five six seven eight")
    assert reason(judged("length", eight, tokens_max=8, tokenizer=str(tmp_path))) is None
    assert reason(judged("length", eight, tokens_max=7, tokenizer=str(tmp_path))) == "too_many_tokens"
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SettingsError, match="tokenizer"):
        judged("length", eight, tokens_max=7, tokenizer=str(tmp_path))


def test_text_that_was_decoded_twice_is_put_right() -> None:
    outcome = judged("encoding", row("Where?", "Das CafÃ© liegt in der SchloÃŸstraÃŸe."))
    assert isinstance(outcome, Changed)
    assert outcome.row.messages[-1].content == "Das Café liegt in der Schloßstraße."


@pytest.mark.parametrize(
    ("text", "found"),
    [("What \ufffd\ufffd is it?", "replacement_characters"), ("\x01\x02 beep", "control_characters")],
)
def test_rubbish_is_dropped_whoever_says_it(text: str, found: str) -> None:
    assert reason(judged("encoding", row(text))) == found
    assert reason(judged("encoding", row("Fine?", text))) == found


def test_without_repair_mojibake_is_dropped() -> None:
    assert reason(judged("encoding", row("?", "CafÃ© crÃ¨me"), repair=False)) == "mojibake"


@pytest.mark.parametrize(
    ("step", "answer", "found"),
    [
        ("refusals", "I’m sorry, but  I can't\nassist with that request.", "refusals"),
        ("refusals", "抱歉，我无法回答这个问题。", "refusals"),
        ("apologies", "I apologize for the confusion. The capital is Bern.", "apologies"),
        ("boilerplate", "Well. As an AI language model, I have no favourite river.", "boilerplate"),
        ("toxicity", "That is easy, you idiot.", "toxicity"),
        ("echo", "how do rivers form", "echo"),
        ("echo", "[image]\n[file: a.pdf]", "only_marks"),
        ("fences", f"Like this:\n{FENCE}python\nprint(1)\n", "open_fence"),
        ("truncation", ANSWER + " And when the water reaches the lowlands it begins", "cut_off"),
        (
            "truncation",
            ANSWER + " These are the parts of a river:\nthe source, the upper course, and then (",
            "cut_off",
        ),
        ("repetition", "the water goes down the hill and then up again " * 9, "repeated_words"),
        ("repetition", "水往低处流然后再往高处走" * 12, "repeated_words"),
        ("repetition", "One more line.\n" * 10, "repeated_lines"),
    ],
)
def test_a_bad_answer_is_found_and_the_row_without_another_is_dropped(step: str, answer: str, found: str) -> None:
    assert reason(judged(step, row("How do rivers form?", answer))) == found


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("refusals", ANSWER * 3 + " A guard would say: I cannot assist with that."),
        (
            "apologies",
            "To write such a letter, begin: I apologize for the confusion about my order, and then say why.",
        ),
        ("toxicity", "The word passion, classic, and a hotheaded youidiots."),
        ("fences", f"{FENCE}{FENCE}\n{FENCE}\ninside\n{FENCE}{FENCE}\nDone."),
        ("fences", f"Use {FENCE}code{FENCE} inline."),
        ("truncation", ANSWER + "\n\nSee https://example.org/rivers/and/valleys/of/the/world"),
        ("truncation", ANSWER + f"\n{FENCE}\nno full stop here at all in this line\n{FENCE}"),
        ("truncation", ANSWER + "\n- a list item without a full stop at the end"),
        ("truncation", CHINESE * 8),
        ("repetition", f"{FENCE}\n" + "x = 1\n" * 50 + FENCE),
        ("echo", "Rivers form."),
    ],
)
def test_what_only_looks_bad_is_kept(step: str, answer: str) -> None:
    assert reason(judged(step, row("How do rivers form?", answer))) is None


def test_a_bad_answer_among_good_ones_becomes_context() -> None:
    outcome = judged("refusals", row("How?", ANSWER, "I can't help with that.", ANSWER + " Indeed."))
    assert isinstance(outcome, Changed)
    assert outcome.reasons == {"refusals": 1}
    assert [message.weight for message in outcome.row.messages] == [None, None, None, 0, None, None]
    assert Row.from_json(outcome.row.to_json()) == outcome.row


def test_a_bad_answer_costs_the_row_where_the_recipe_says_so() -> None:
    subject = row("How?", ANSWER, "I can't help with that.")
    assert reason(judged("refusals", subject, on_match="drop")) == "refusals"


def test_a_preference_whose_better_answer_is_bad_is_dropped() -> None:
    rejected = (Message(role="assistant", content="No."),)
    assert reason(judged("refusals", row("How?", ANSWER, "I can't help with that.", rejected=rejected))) == "refusals"


def masked(subject: Row, *places: int) -> Row:
    """The row with the answers at these places being context only."""
    messages = tuple(
        message.model_copy(update={"weight": 0}) if place in places else message
        for place, message in enumerate(subject.messages)
    )
    return subject.model_copy(update={"messages": messages})


def test_an_answer_that_is_context_already_is_not_judged() -> None:
    assert reason(judged("refusals", masked(row("How?", "I can't help with that.", ANSWER), 1))) is None


def test_a_row_that_nothing_is_learned_from_is_dropped() -> None:
    assert reason(judged("echo", masked(row(), 1))) == "nothing_to_learn"


def test_an_answer_that_only_calls_a_tool_is_no_empty_one() -> None:
    call = ToolCall(id="1", function=FunctionCall(name="map", arguments="{}"))
    messages = (Message(role="user", content="Where?"), Message(role="assistant", tool_calls=(call,)))
    subject = Row(id="t", source="openai", messages=messages, provenance=Provenance())
    for step in ROW_STEPS:
        assert reason(judged(step, subject, **({"chars_min": 0} if step == "length" else {}))) is None


def test_an_answer_that_is_given_again_is_found() -> None:
    long = ANSWER + " " + ANSWER.replace("Rivers", "Streams")
    outcome = judged("repetition", row("How?", long, long), words_min=20, share=1.0)
    assert reason(outcome) == "+same_answer"


def test_hostile_words_of_a_user_drop_the_row_unless_the_recipe_looks_elsewhere() -> None:
    subject = row("you moron, how do rivers form?")
    assert reason(judged("toxicity", subject)) == "toxicity"
    assert reason(judged("toxicity", subject, roles=["assistant"])) is None
    assert reason(judged("toxicity", subject, hits_min=2)) is None


def test_personal_data_is_replaced_and_counted_by_kind() -> None:
    outcome = judged("personal", row("My mail is jane.doe@example.com, is that fine?"), names="off")
    assert isinstance(outcome, Changed)
    assert outcome.reasons == {"email": 1}
    assert b"jane.doe" not in outcome.row.to_json()


def test_a_phrase_matches_whole_words_only_but_in_scripts_without_spaces_anywhere() -> None:
    known = PhraseList(["Go Die", "无法"])
    assert known.found(normal("Just GO\n die!"))
    assert not known.found(normal("a cargo die"))
    assert not known.found(normal("go diet"))
    assert known.found("我无法说")


def test_the_parts_of_a_text_know_code_and_its_end() -> None:
    found = parts(f"before\n{FENCE}js\ncode\n{FENCE}\n\n")
    assert (found.prose.strip(), found.open, found.ends_in_code) == ("before", False, True)


def test_a_share_of_repeated_words_counts_each_word_once() -> None:
    assert repeated_share(words("a b c d"), 2) == 0
    assert repeated_share(words("a b a b a b"), 2) == pytest.approx(4 / 6)
    assert repeated_share([], 2) == 0


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=300).filter(str.strip), min_size=1, max_size=3), st.text(min_size=1))
def test_whatever_is_said_no_step_raises_and_what_is_left_is_a_row(answers: list[str], asked: str) -> None:
    subject = row(asked, *answers)
    for step in ROW_STEPS:
        outcome = judged(step, subject)
        left = outcome.row if isinstance(outcome, Changed) else subject
        assert Row.from_json(left.to_json()) == left
