"""Documents taken apart: what is translated, and that everything else stays byte for byte."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import polib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import InvalidRequest
from serve.handlers.translation.document import Document, Entry, Segment
from serve.handlers.translation.document import segments as segments_of
from serve.handlers.translation.formats import format_of, read
from serve.handlers.translation.sentences import cut
from serve.protocol.translation import Format

FORMATS: tuple[Format, ...] = ("auto", "text", "markdown", "html")
MARKDOWN = """---
title: Never translated
---
# Heading with `code`

Wrapped *prose* goes
on [over a line](https://a.b/c "T"), {name}.\x20\x20
After a hard break.

> A quote that
> goes on.

- one
- [ ] two
  1. nested

| Head | Tail |
| --- | ---: |
| cell | `x` |

```python
print("stays")
```

<div class="x">
<p>Inside</p>
</div>

[ref]: https://x.y
"""


def segments(document: Document) -> list[str]:
    """The texts that would be translated."""
    return [part.text for part in segments_of(document)]


def rebuilt(document: Document) -> str:
    """The document with every segment translated as itself."""
    return rendered(document, lambda text: text)


def rendered(document: Document, rule: Callable[[str], str]) -> str:
    """The document with every segment translated by a rule."""
    return "".join(
        part
        if isinstance(part, str)
        else rendered(part.parts, rule)
        if isinstance(part, Entry)
        else part.render(rule(part.text))
        for part in document
    )


def test_markdown_prose_is_found_and_nothing_else() -> None:
    assert segments(read(MARKDOWN, "markdown")) == [
        "Heading with `code`",
        'Wrapped *prose* goes on [over a line](https://a.b/c "T"), {name}.',
        "After a hard break.",
        "A quote that goes on.",
        "one",
        "[ ] two",
        "nested",
        "Head",
        "Tail",
        "cell",
        "`x`",
        "Inside",
    ]


def test_markdown_keeps_its_lines() -> None:
    text = rebuilt(read(MARKDOWN, "markdown"))
    assert len(text.splitlines()) == len(MARKDOWN.splitlines())
    for line in ("title: Never translated", 'print("stays")', "| --- | ---: |", "[ref]: https://x.y", "  1. nested"):
        assert f"\n{line}\n" in text
    assert "\n> goes on." in text or "\n> that" in text


@pytest.mark.parametrize(
    "unit", ["[", "![", "<a ", "<a '", "<!--", "<!", "<code ", "<code>", "`" * 10 + "a", "](", "a "]
)
def test_marks_without_an_end_take_no_time(unit: str) -> None:
    text = unit * (60_000 // len(unit))
    before = time.thread_time()
    for format in FORMATS:
        for part in read(text, format):
            if isinstance(part, Segment):
                cut(part.text, part.syntax, 600)
    assert time.thread_time() - before < 5


@pytest.mark.parametrize(
    "text", ["a" + " " * 60_000 + "b", "<p>" + "a\n" * 30_000, "a  \nb" + " " * 60_000 + "c\\\n" * 9]
)
def test_space_takes_no_time(text: str) -> None:
    before = time.thread_time()
    for format in FORMATS:
        for part in read(text, format):
            if isinstance(part, Segment):
                cut(part.text, part.syntax, 600)
                part.render(part.text)
    assert time.thread_time() - before < 5


def test_columns_of_plain_text_stay() -> None:
    text = "Name\tAge of it\n  a cat  three years\tlong ago\n"
    assert segments(read(text, "text")) == ["Name", "Age of it", "a cat", "three years", "long ago"]
    assert rebuilt(read(text, "text")) == text


def test_a_wrapped_line_never_begins_like_a_list_or_a_heading() -> None:
    [segment] = [one for one in read("speed and\nthe key\nand more", "markdown") if isinstance(one, Segment)]
    for said in ("it is - a key # of > three 1. things", "- - - - -", "x --- y === z"):
        lines = segment.render(said).split("\n")
        assert " ".join(lines) == said
        assert not any(re.match(r"[-+#>=]|1\.", line) for line in lines[1:]), lines


def test_chinese_is_wrapped_between_its_letters() -> None:
    [segment] = [one for one in read("One line\nand two\nand three", "markdown") if isinstance(one, Segment)]
    lines = segment.render("这是第一行，然后是第二行，还有第三行。").split("\n")
    assert "".join(lines) == "这是第一行，然后是第二行，还有第三行。" and len(lines) == 3
    assert not any(line.startswith(("，", "。")) for line in lines)


@pytest.mark.parametrize(
    ("text", "format", "found"),
    [
        ("# Title", "markdown", ["Title"]),
        ('{"a": "Two words"}', "json", ["Two words"]),
        ("# Title", "auto", ["Title"]),
    ],
)
def test_a_byte_order_mark_stays(text: str, format: Format, found: list[str]) -> None:
    document = read("\ufeff" + text, format)
    assert segments(document) == found and rebuilt(document) == "\ufeff" + text


def test_each_footnote_is_a_passage_without_its_mark() -> None:
    text = "Said here.[^1]\n\n[^1]: It was so,\nand is.\n[^long name]:  Another.\n\n- [^3]: In a list.\n"
    document = read(text, "markdown")
    assert segments(document) == ["Said here.[^1]", "It was so, and is.", "Another.", "In a list."]
    assert rendered(document, str.upper).count("[^1]: IT") == 1 and rebuilt(document) == text


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_any_plain_text_is_rebuilt_as_it_was(text: str) -> None:
    assert rebuilt(read(text, "text")) == text


@given(
    st.lists(
        st.sampled_from([*MARKDOWN, "\n\n", "# ", "- ", "```\n", "> ", "<b>", "|", "[^1]: ", "é", "中"]), max_size=80
    )
)
def test_any_markdown_keeps_its_words(parts: list[str]) -> None:
    text = "".join(parts)
    assert "".join(rebuilt(read(text, "markdown")).split()) == "".join(text.split())


@given(st.lists(st.sampled_from(["<p>", "</p>", "<b a='>'>", "</b>", "word ", "<br>", "\n", "<!-- x -->", "a < b"])))
def test_any_html_keeps_its_tags(parts: list[str]) -> None:
    text = "".join(parts)
    found = rebuilt(read(text, "html"))
    assert "".join(found.split()) == "".join(text.split())


def test_html_structure_code_and_attributes_stay() -> None:
    text = (
        '<!doctype html>\n<p class="a>b">Hello <b>big</b> caf&eacute;.<br>Next</p>'
        '<script>var a = "no";</script><pre>no</pre><ul><li>One</li></ul>'
    )
    assert segments(read(text, "html")) == ["Hello <b>big</b> café.", "Next", "One"]
    assert 'class="a>b"' in rebuilt(read(text, "html"))


def test_json_values_are_translated_and_names_are_not() -> None:
    raw = {"title": "My page", "id": "user_42", "icon": "fa-save", "n": 3, "list": ["Two\nlines", True, None]}
    text = json.dumps(raw, indent=2)
    document = read(text, "json")
    assert segments(document) == ["My page", "Two", "lines"]
    assert rebuilt(document) == text


@pytest.mark.parametrize(
    "value",
    ["fa-save", "user_42", "#ffcc00", "a/b.png", "../up", "v1.2.3", "me@host", "camelCase", "text:bold", "@media"],
)
def test_names_in_json_are_left_alone(value: str) -> None:
    assert segments(read(json.dumps({"a": value}), "json")) == []


@pytest.mark.parametrize(
    "value",
    [
        "Loading...",
        "Password:",
        "Hello.",
        "E-mail",
        "您有3条新消息",
        "设置:",
        "สวัสดี.",
        "CANCEL",
        "Save",
        "Größe",
        "Wi-Fi",
    ],
)
def test_words_in_json_are_translated(value: str) -> None:
    assert segments(read(json.dumps({"a": value}, ensure_ascii=False), "json")) == [value]


def test_half_a_character_in_json_stays_as_it_is_written() -> None:
    text = '{"a": "cut in half \\ud83d here", "b": "whole"}'
    assert segments(read(text, "json")) == ["whole"]
    assert rebuilt(read(text, "json")) == text


def test_json_stays_json_whatever_is_said() -> None:
    document = read('{"a": "Say it"}', "json")
    text = rendered(document, lambda text: 'he said "no"\\ \u2028')
    assert json.loads(text) == {"a": 'he said "no"\\ \u2028'}


def test_a_catalogue_gets_what_it_lacks() -> None:
    text = (
        'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n#: a.py:3\n#, python-format\n'
        'msgid "You have %d messages."\nmsgstr ""\n\nmsgid "one"\nmsgid_plural "many"\nmsgstr[0] ""\nmsgstr[1] ""\n\n'
        '#, fuzzy\nmsgid "old"\nmsgstr "alt"\n\nmsgid "done"\nmsgstr "fertig"\n'
    )
    document = read(text, "po")
    assert segments(document) == ["You have %d messages.", "one", "many", "old"]
    found = polib.pofile(rendered(document, str.upper))
    assert found.find("You have %d messages.").msgstr == "YOU HAVE %D MESSAGES."
    assert found.find("one").msgstr_plural == {0: "ONE", 1: "MANY"}
    assert found.find("old").flags == [] and found.find("done").msgstr == "fertig"


def test_a_catalogue_is_never_read_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.po").write_text('# a secret\nmsgid "a secret"\nmsgstr ""\n')
    monkeypatch.chdir(tmp_path)
    messages = []
    for path in (tmp_path / "secret.po", "secret.po", tmp_path / "absent.po"):
        with pytest.raises(InvalidRequest) as refused:
            read(str(path), "po")
        messages.append(str(refused.value))
    assert len(set(messages)) == 1 and "(line 1)" in messages[0]


def test_a_catalogue_may_have_any_character_in_its_comments() -> None:
    text = '# \ue0000\ue001 and \ue0009\ue001\nmsgid "Say it"\nmsgstr ""\n'
    document = read(text, "po")
    assert segments(document) == ["Say it"]
    assert "# \ue0000\ue001 and \ue0009\ue001\n" in rebuilt(document)


def test_subtitles_keep_numbers_times_tags_and_speakers() -> None:
    text = (
        "1\n00:00:01,000 --> 00:00:02,000\n{\\an8}Hello there,\nmy friend.\n\n"
        "2\n00:00:03,000 --> 00:00:04,000\n- Who?\n- <i>Me</i>.\n"
    )
    document = read(text, "srt")
    assert segments(document) == ["Hello there, my friend.", "Who?", "<i>Me</i>."]
    assert rebuilt(document) == text
    vtt = "WEBVTT\n\nNOTE a note\n\nid1\n00:01.000 --> 00:02.000 align:start\n<v Bob>Hello.\n"
    assert segments(read(vtt, "vtt")) == ["Hello."] and rebuilt(read(vtt, "vtt")) == vtt


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("{", "json"),
        ("[" * 100_000, "json"),
        ("9" * 5000, "json"),
        ("hello", "srt"),
        ("hello", "vtt"),
        ("nonsense", "po"),
    ],
)
def test_a_document_that_is_not_what_it_claims_is_refused(text: str, format: Format) -> None:
    with pytest.raises(InvalidRequest):
        read(text, format)


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("Just a sentence.", "text"),
        ("# Title\n\nText", "markdown"),
        ("See [it](a.md).", "markdown"),
        ("<p>Hello</p>", "html"),
        ("a < b and c > d", "text"),
    ],
)
def test_the_format_of_a_text_is_told_by_its_looks(text: str, format: Format) -> None:
    assert format_of(text, "auto") == format
