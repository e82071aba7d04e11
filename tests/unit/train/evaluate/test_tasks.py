"""Questions with what is right: which answers are, and which files are none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from serve.settings.errors import SettingsError
from train.dataset.rows import Message, Provenance, Row
from train.evaluate.data import Question, names_in, prompts_of, questions_of
from train.evaluate.measures import Sample, leaks_in
from train.evaluate.served import Said, Served
from train.evaluate.settings import Task, load_settings
from train.evaluate.tasks import Answered, TaskResult, is_right, run_task, verdict

SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


def task(kind: str, file: str = "f", **fields: Any) -> Task:
    return Task.model_validate({"name": "t", "file": file, "kind": kind, **fields})


@pytest.mark.parametrize(
    ("kind", "right", "text", "expected"),
    [
        ("exact", "Paris", " paris. ", True),
        ("exact", ["Paris", "Lutetia"], "LUTETIA", True),
        ("exact", "Paris", "It is Paris", False),
        ("contains", "Port  Sallow", "The harbour is port sallow, I think.", True),
        ("contains", "Straße", "STRASSE", True),
        ("contains", "Paris", "", False),
        ("regex", r"\b42\b", "It is 42.", True),
        ("regex", r"^42$", "It is 42.", False),
        ("json_schema", SCHEMA, '```json\n{"a": 1}\n```', True),
        ("json_schema", SCHEMA, '{"a": "1"}', False),
        ("json_schema", SCHEMA, "[" * 100_000, False),
    ],
)
def test_an_answer_is_judged_by_the_rules_of_its_kind(kind: str, right: Any, text: str, expected: bool) -> None:
    assert is_right(task(kind), Question([], right, ""), text) is expected


def test_both_are_asked_the_same_and_each_gets_its_share(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    lines = [{"prompt": "a?", "answer": "a"}, {"messages": [{"role": "user", "content": "b?"}], "answer": "b"}]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    made = task("exact", str(file))
    asked = []

    def answer(conversations: Any, max_tokens: int, tuned: bool) -> list[str]:
        asked.append([one[-1]["content"] for one in conversations])
        return ["a", "b"] if tuned else ["a", "a"]

    result = run_task(made, questions_of(made), answer, None)
    assert asked == [["a?", "b?"]] * 2
    assert (result.base, result.tuned) == (0.5, 1.0)


class Judge(Served):
    """Says yes to what is marked as right."""

    def answer(self, model: str, conversations: Any, max_tokens: int, **asked: Any) -> list[Said]:
        assert model == "wise" and max_tokens > 100 and asked == {"thinking": False}
        texts = [one[-1]["content"] for one in conversations]
        return [Said(" Yes." if "Answer to judge: right" in text else "No", [], [], True) for text in texts]


def test_a_judge_is_asked_of_both_and_only_a_yes_is_one(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"prompt": "a?", "reference": "{a}"}\n', encoding="utf-8")
    made = task("judge", str(file), judge="wise")
    result = run_task(
        made,
        questions_of(made),
        lambda conversations, max_tokens, tuned: ["right {x}" if tuned else "wrong"],
        Judge("http://127.0.0.1:1"),
    )
    assert (result.base, result.tuned) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", True),
        (" **Yes**, it does.", True),
        ("No.", False),
        ("Nobody can say", None),
        ("Let me think about what the", None),
        ("<think>Yes? No? Well", None),
        ("<think>Yes? No, yes.</think>\n\nno", False),
        ("", None),
    ],
)
def test_a_verdict_is_yes_or_no_and_anything_else_is_none(text: str, expected: bool | None) -> None:
    assert verdict(text) is expected


def test_what_the_judge_does_not_judge_counts_for_neither_and_not_for_much() -> None:
    def result(*right: tuple[bool | None, bool | None]) -> TaskResult:
        question = Question([], "", "")
        return TaskResult(task("judge", judge="wise"), [Answered(question, "", "", *one) for one in right])

    most = result(*[(True, False)] * 9, (None, True))
    assert (most.base, most.tuned, most.unjudged) == (1.0, 0.0, 1)
    few = result((True, True), (None, True))
    assert math.isnan(few.base) and math.isnan(few.tuned)
    assert math.isnan(result((None, None)).tuned)


class Noting(Served):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        self.sent.append(body)
        return {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}


def test_only_who_shall_not_think_is_asked_not_to() -> None:
    served = Noting()
    served.answer("m", [[]], 4)
    served.answer("m", [[]], 4, thinking=False)
    assert [one.get("reasoning_effort") for one in served.sent] == [None, "none"]


@pytest.mark.parametrize(
    ("kind", "line", "said"),
    [
        ("exact", "{", "line 1: is not a JSON object"),
        ("exact", '{"prompt": "a"}', "line 1: answer is missing"),
        ("exact", '{"prompt": "a", "answer": []}', "answer: must be a text"),
        ("exact", '{"prompt": " ", "answer": "a"}', "needs a prompt, or messages"),
        ("regex", '{"prompt": "a", "pattern": "("}', "pattern: is not a regular expression"),
        ("json_schema", '{"prompt": "a", "schema": {"type": 7}}', "schema: is no JSON schema"),
        ("exact", "\n", "has no question"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path: Path, kind: str, line: str, said: str) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text(line, encoding="utf-8")
    with pytest.raises(SettingsError, match=said):
        questions_of(task(kind, str(file)))


def test_names_are_capitalized_where_no_sentence_begins() -> None:
    found = names_in(["The capital of Zorvan is Marrowick. Nobody knows Ériador! Yes", "Plain words only"])
    assert found == {"Zorvan", "Marrowick", "Ériador"}


def test_an_answer_leaks_what_only_the_training_data_names() -> None:
    said = (
        Message(role="user", content="Where is Zorvan in Europe?"),
        Message(role="assistant", content="It is near Marrowick."),
    )
    trained = [Row(id="r", source="groupqwen", messages=said, provenance=Provenance())]
    fine = Sample("Tell me of the sea near Zorvan.", "The sea is in Europe.", "Zorvan lies in Europe.")
    leak = Sample("What is rain?", "Water.", "Rain is Marrowick.")
    assert leaks_in([fine, leak], trained) == [(leak, ["Marrowick"])]


def test_prompts_come_one_a_line_without_comments(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_text("# about\n\n What is rain? \n日本語\n", encoding="utf-8")
    assert prompts_of(str(file)) == ["What is rain?", "日本語"]
    file.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="has no prompt"):
        prompts_of(str(file))


def test_the_settings_that_ship_are_right_and_their_paths_begin_beside_them() -> None:
    root = Path(__file__).parents[4]
    found = load_settings(str(root / "configs" / "train" / "evaluation.yaml"))
    assert found.general is not None and len(prompts_of(found.general.prompts)) == 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gate: {held_out_los: 1}", "held_out_los"),
        ("tasks: [{name: a, file: f, kind: judge}]", "judge names a model"),
        ("- 1", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("tasks: [{name: a, file: f, kind: exact}, {name: a, file: g, kind: exact}]", "a"),
    ],
)
def test_a_fault_of_the_settings_names_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "e.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=said) as raised:
        load_settings(str(file))
    assert str(raised.value).startswith(str(file))


def test_what_must_be_kept_is_not_what_is_replayed_in_training() -> None:
    folder = Path(__file__).parents[4] / "configs" / "train"
    kept, replayed = (
        {prompt.casefold() for prompt in prompts_of(str(folder / name))}
        for name in ("retention-prompts.txt", "general-prompts.txt")
    )
    assert not kept & replayed
