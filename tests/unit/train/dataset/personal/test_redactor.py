"""Rows with their personal data replaced."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from train.dataset.personal import PersonalData, PersonalDataSettings
from train.dataset.rows import FunctionCall, Message, Provenance, Row, ToolCall

PLAIN = PersonalData(PersonalDataSettings(names="off"))
SALT = "a salt of many characters"


def row(
    user: str = "Hello.", answer: str = "Hi.", *, arguments: str | None = None, title: str | None = None, **more: Any
) -> Row:
    messages = [Message(role="user", content=user), Message(role="assistant", content=answer)]
    if arguments is not None:
        call = ToolCall(id="c1", function=FunctionCall(name="send", arguments=arguments))
        messages[1:1] = [
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content="sent", tool_call_id="c1"),
        ]
    return Row(id="r", source="openai", messages=tuple(messages), provenance=Provenance(title=title), **more)


def arguments_of(redacted: Row) -> str:
    [call] = redacted.messages[1].tool_calls or ()
    return call.function.arguments


def test_the_same_value_has_the_same_placeholder_in_the_whole_conversation() -> None:
    done = PLAIN.redact(
        row("I am Jane@Example.com, not bob@x.org.", "Thanks, jane@example.com!", title="Mail bob@x.org")
    )
    assert done.row.messages[0].content == "I am [EMAIL_1], not [EMAIL_2]."
    assert done.row.messages[1].content == "Thanks, [EMAIL_1]!"
    assert done.row.provenance.title == "Mail [EMAIL_2]"
    assert done.found == {"email": 4}


def test_one_number_written_in_two_ways_has_one_placeholder() -> None:
    done = PLAIN.redact(row("+49 30 901820 or +4930901820", "4111 1111 1111 1111 is 4111111111111111."))
    assert done.row.messages[0].content == "[PHONE_1] or [PHONE_1]"
    assert done.row.messages[1].content == "[CARD_1] is [CARD_1]."


def test_a_row_without_findings_is_the_same_object() -> None:
    clean = row(arguments='{"a": [1, 2.50, null, true]}', tools=({"type": "function"},))
    done = PLAIN.redact(clean)
    assert done.row is clean
    assert done.found == {}


def test_placeholders_that_are_there_already_are_given_to_nothing_else() -> None:
    once = PLAIN.redact(row("a@x.org", "[EMAIL_7] is b@x.org")).row
    assert once.messages[0].content == "[EMAIL_8]"
    assert once.messages[1].content == "[EMAIL_7] is [EMAIL_9]"
    assert PLAIN.redact(once).row is once


def test_calls_stay_json_written_as_they_were() -> None:
    given_arguments = (
        '{ "to":"a@x.org" ,\n "n": 1.50, "card": 4111111111111111,'
        ' "t": "x\\u0040y.org\\n\\"\u0645\\"", "b@x.org": []}'
    )
    done = PLAIN.redact(row(arguments=given_arguments))
    assert arguments_of(done.row) == (
        '{ "to":"[EMAIL_1]" ,\n "n": 1.50, "card": "[CARD_1]", "t": "[EMAIL_2]\\n\\"\u0645\\"", "[EMAIL_3]": []}'
    )
    assert done.found == {"email": 3, "card": 1}


def test_calls_that_are_no_json_are_texts() -> None:
    assert arguments_of(PLAIN.redact(row(arguments='{"to": a@x.org')).row) == '{"to": [EMAIL_1]'


def test_what_a_field_is_called_tells_that_it_is_secret() -> None:
    done = PLAIN.redact(
        row(
            arguments='{"password": "correct horse", "db_password": "battery9", "count": "battery9", "pwd": "staple"}'
        )
    )
    assert json.loads(arguments_of(done.row)) == {
        "password": "correct horse",
        "db_password": "[SECRET_1]",
        "count": "battery9",
        "pwd": "staple",
    }


def test_what_a_field_is_called_tells_what_its_digits_are() -> None:
    done = PLAIN.redact(row(arguments='{"phone": "4155552671", "n": 4155552671, "ssn": 536228726, "a@x.org": "b"}'))
    assert arguments_of(done.row) == '{"phone": "[PHONE_1]", "n": 4155552671, "ssn": "[ID_1]", "[EMAIL_1]": "b"}'
    assert done.found == {"phone": 1, "national_id": 1, "email": 1}


@pytest.mark.parametrize(
    ("given_arguments", "expected"),
    [
        (
            '{"phones": ["415-555-2671", "4155552672"], "n": "4155552673"}',
            '{"phones": ["[PHONE_1]", "[PHONE_2]"], "n": "4155552673"}',
        ),
        (
            '{"phones": [[], {"n": 4155552671}, [null, 4155552672], "4155552673"]}',
            '{"phones": [[], {"n": 4155552671}, [null, "[PHONE_1]"], "[PHONE_2]"]}',
        ),
        ('[{"phone": []}, "4155552671"]', '[{"phone": []}, "4155552671"]'),
        ('{"password": null, "battery9": 1}', '{"password": null, "battery9": 1}'),
    ],
)
def test_what_a_list_is_called_tells_of_all_that_is_in_it(given_arguments: str, expected: str) -> None:
    done = PLAIN.redact(row(arguments=given_arguments))
    assert arguments_of(done.row) == expected


def test_every_part_of_a_row_is_covered() -> None:
    full = Row(
        id="r",
        source="openai",
        messages=(
            Message(role="system", content="Owner: s@x.org"),
            Message(role="user", content="Hi", name="u@x.org"),
            Message(role="assistant", content="Hi", reasoning_content="r@x.org asks"),
        ),
        tools=(
            {"type": "function", "function": {"name": "f", "description": "mail t@x.org", "enum": ["e@x.org", 3]}},
        ),
        rejected=(Message(role="assistant", content="no j@x.org"),),
        provenance=Provenance(title="p@x.org", file="z@x.org.json", member="m@x.org.json"),
    )
    done = PLAIN.redact(full)
    assert b"@" not in done.row.to_json()
    assert done.found == {"email": 9}
    # OpenAI's API takes letters, digits, - and _ in names.
    assert (done.row.messages[1].name or "").startswith("EMAIL_")
    assert Row.from_json(done.row.to_json()) == done.row


def test_keyed_placeholders_are_the_same_in_every_conversation_and_differ_by_salt() -> None:
    def content(salt: str, text: str) -> str | None:
        keyed = PersonalData(PersonalDataSettings(names="off", placeholder="keyed", salt=salt))  # type: ignore[arg-type]
        return keyed.redact(row(text)).row.messages[0].content

    one = content(SALT, "a@x.org")
    assert one is not None and one.startswith("[EMAIL_") and one[7:-1].isalpha()
    assert content(SALT, "b@x.org, A@x.org") != one
    assert (content(SALT, "b@x.org, A@x.org") or "").endswith(one)
    assert content(SALT + "!", "a@x.org") != one


def test_it_can_be_sent_to_another_process() -> None:
    used = PersonalData(PersonalDataSettings(names="off"))
    used.redact(row())
    assert pickle.loads(pickle.dumps(used)).redact(row("a@x.org")).found == {"email": 1}


@pytest.mark.parametrize(
    ("given_settings", "what"),
    [
        ({"kinds": ["emails"]}, "kinds"),
        ({"kinds": ["name"]}, "names: auto or required"),
        ({"phone_regions": ["UK"]}, "no such region: UK"),
        ({"placeholder": "keyed"}, "salt"),
        ({"placeholder": "keyed", "salt": "short"}, "16"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_settings_say_what_is_wrong(given_settings: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        PersonalDataSettings(**given_settings)


def test_the_salt_is_not_shown() -> None:
    assert SALT not in repr(PersonalDataSettings(placeholder="keyed", salt=SALT))  # type: ignore[arg-type]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
PERSONAL = st.sampled_from(["a@x.org", "4111111111111111", "+4930901820", "https://u:pw12@h.org"])


@given(JSON, PERSONAL, st.text(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_call_stays_json_and_loses_what_is_personal(value: Any, personal: str, around: str, ascii: bool) -> None:
    text = json.dumps({"v": value, "p": f"{around} {personal} {around}"}, ensure_ascii=ascii)
    if any("\ud800" <= char <= "\udfff" for char in text):
        return
    redacted = json.loads(arguments_of(PLAIN.redact(row(arguments=text)).row))
    assert personal not in redacted["p"]
    assert set(redacted) == {"v", "p"}


@given(st.text(min_size=1), st.text(min_size=1))
@settings(max_examples=200, deadline=None)
def test_redacting_twice_changes_nothing_more(user: str, answer: str) -> None:
    once = PLAIN.redact(row(f"{user} a@x.org", f"{answer} 81.2.69.142")).row
    assert PLAIN.redact(once).row == once
