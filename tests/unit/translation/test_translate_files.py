"""Files as forms bring them, and the translated files that come back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.tasks.group import TaskGroup
from tests.unit.translation.asking import ROUTE


async def test_a_file_comes_back_as_a_file(group: TaskGroup) -> None:
    content = "# Title\n\nSome [text](x.md).\n\n```sh\nls\n```\n"
    files = {"file": ("docs/guide.md", content.encode(), "text/markdown")}
    answer = await group.client.post(ROUTE, data={"target_lang": "German", "source_lang": "en"}, files=files)
    assert answer.status_code == 200, answer.text
    assert answer.text == "# TITLE\n\nSOME [TEXT](x.md).\n\n```sh\nls\n```\n"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''guide.de.md"
    assert answer.headers["x-groupqwen-violations"] == "0"


async def test_a_file_can_be_answered_with_a_report(group: TaskGroup) -> None:
    terms = json.dumps([{"source": "house", "target": "Haus"}])
    form = {"target_lang": "de", "source_lang": "en", "answer": "json", "terms": terms}
    files = {"file": ("a.txt", b"A house is here.", "text/plain")}
    answer = (await group.client.post(ROUTE, data=form, files=files)).json()
    assert answer["filename"] == "a.de.txt"
    assert answer["translations"][0]["violations"] == [{"type": "term", "source": "house", "target": "Haus"}]


@pytest.mark.parametrize(
    ("name", "content", "form", "words"),
    [
        ("a.docx", b"x", {"target_lang": "de"}, "unknown ending '.docx'"),
        ("a.txt", b"", {"target_lang": "de"}, "the file is empty"),
        ("a.txt", b"\xff\xfe", {"target_lang": "de"}, "must be text in UTF-8; byte 0"),
        ("a.txt", b"x", {}, "target_lang"),
        ("a.txt", b"x", {"target_lang": "de", "terms": "nonsense"}, "terms: must be a JSON list"),
        ("a.txt", b"x", {"target_lang": "de", "color": "red"}, "unknown key"),
    ],
)
async def test_a_bad_form_says_what_is_wrong(
    group: TaskGroup, name: str, content: bytes, form: dict[str, str], words: str
) -> None:
    answer = await group.client.post(ROUTE, data=form, files={"file": (name, content)})
    assert answer.status_code == 400 and words in answer.json()["error"]["message"], answer.text


@pytest.mark.parametrize(
    ("fields", "files", "param", "words"),
    [
        ({"target_lang": "de"}, {"document": ("a.txt", b"x")}, None, "the file is called 'file'"),
        ({"target_lang": "de"}, {"file": (None, b"a.txt")}, "file", "must be a file"),
        ({"target_lang": ["de", "fr"]}, {"file": ("a.txt", b"x")}, "target_lang", "more than once"),
        ({"target_lang": "de"}, {"format": (None, b"text")}, "file", "required"),
    ],
)
async def test_a_form_whose_fields_are_mixed_up_names_the_field(
    group: TaskGroup, fields: dict[str, Any], files: dict[str, Any], param: str | None, words: str
) -> None:
    answer = await group.client.post(ROUTE, data=fields, files=files)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param) and words in error["message"], answer.text
