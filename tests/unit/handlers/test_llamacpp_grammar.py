"""Grammars made of schemas and tools."""

from __future__ import annotations

from typing import Any

import pytest

from serve.handlers.llamacpp.grammar import GrammarText, SchemaError
from serve.protocol.requests import FunctionDefinition


def rules(grammar: GrammarText) -> dict[str, str]:
    found = {}
    for line in grammar.text().splitlines():
        name, rule = line.split(" ::= ", 1)
        found[name] = rule
    return found


def answer(schema: dict[str, Any]) -> dict[str, str]:
    grammar = GrammarText()
    grammar.allow_json(schema)
    return rules(grammar)


def calls(*functions: dict[str, Any], many: bool = True) -> dict[str, str]:
    grammar = GrammarText()
    grammar.allow_calls([FunctionDefinition.model_validate(function) for function in functions], many=many)
    return rules(grammar)


def test_any_object_begins_with_a_brace() -> None:
    found = answer({"type": "object"})
    assert found["root"] == "(answer)"
    assert found["answer"] == "object"
    assert found["object"].startswith('"{"')


def test_white_space_is_bounded() -> None:
    assert "*" not in answer({"type": "object"})["space"]


def test_strings_hold_no_raw_control_characters() -> None:
    assert r"\x00-\x1F" in answer({"type": "string"})["char"]


def test_a_list_of_types_keeps_the_rest_of_the_schema() -> None:
    found = answer({"type": ["string", "null"], "maxLength": 2})
    assert found["answer"] == "answer-0 | null"
    assert found["answer-0"] == r'"\"" (char (char)?)? "\"" space'


@pytest.mark.parametrize("schema", [{}, {"description": "anything"}, {"minimum": 3}])
def test_a_schema_without_a_shape_takes_anything(schema: dict[str, Any]) -> None:
    assert {"object", "array", "string", "number", "boolean", "null"} <= set(answer(schema))


@pytest.mark.parametrize("items", [{}, True])
def test_items_may_be_anything(items: object) -> None:
    assert "answer-item" in answer({"type": "array", "items": items})["answer"]


def test_literals_keep_quotes_backslashes_and_letters() -> None:
    assert answer({"enum": ['a"b', "c\\d", "é\n"]})["answer"] == r'"\"a\\\"b\"" | "\"c\\\\d\"" | "\"é\\n\""'


def test_a_schema_may_refer_to_itself() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    found = answer({"$ref": "#/$defs/node", "$defs": {"node": node}})
    assert found["ref-0-next"] == "ref-0"


def test_references_are_found_by_json_pointer() -> None:
    schema = {"anyOf": [{"$ref": "#/$defs/a~1b/anyOf/1"}], "$defs": {"a/b": {"anyOf": [{}, {"type": "integer"}]}}}
    assert answer(schema)["answer"] == "answer-0"
    assert answer(schema)["answer-0"] == "integer"


def test_parts_of_a_schema_may_be_references() -> None:
    part = {"type": "object", "properties": {"x": {"type": "integer"}}}
    assert "answer-x-kv" in answer({"allOf": [{"$ref": "#/$defs/part"}], "$defs": {"part": part}})["answer"]


def test_references_that_end_alike_in_two_functions_are_two() -> None:
    def function(name: str, kind: str) -> dict[str, Any]:
        schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": kind}}}
        return {"name": name, "parameters": schema}

    found = calls(function("f", "integer"), function("g", "boolean"))
    assert found["arguments-0-x"] == "integer"
    assert found["arguments-1-x"] == "boolean"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "maxLength": 1001},
        {"type": "array", "items": {"type": "string"}, "minItems": 10**9},
        {"type": "string", "pattern": "^a{1,100000}$"},
        {"type": "object", "properties": {"deep": {"type": "string", "maxLength": 10**6}}},
        {"type": "unknown"},
        {"type": "string", "pattern": "no anchors"},
        {"type": "object", "properties": []},
        {"anyOf": [False]},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/schema.json"},
    ],
)
def test_what_cannot_be_converted_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        answer(schema)


def test_endless_nesting_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(SchemaError):
        answer(schema)


def test_the_schema_itself_is_left_alone() -> None:
    schema = {"$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}}
    answer(schema)
    assert schema["$ref"] == "#/$defs/x"


def test_a_call_names_a_function_and_follows_its_schema() -> None:
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    found = calls({"name": "f", "parameters": parameters}, {"name": "g"})
    assert found["call"].startswith(r'"<tool_call>\n{\"name\": " (')
    assert r'"\"f\", \"arguments\": " arguments-0 | "\"g\", \"arguments\": " arguments-1' in found["call"]
    assert "arguments-0-n-kv" in found["arguments-0"]


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    assert calls({"name": "f"})["arguments-0"] == '"{" space  "}" space'


def test_many_calls_may_follow_each_other_or_not() -> None:
    assert calls({"name": "f"}, many=True)["root"] == r'(call ("\n" call)*)'
    assert calls({"name": "f"}, many=False)["root"] == "(call)"


def test_arguments_without_a_usable_schema_are_any_object() -> None:
    assert calls({"name": "f", "parameters": {"type": "unknown"}})["arguments-0"] == "object"


def test_a_strict_function_needs_a_usable_schema() -> None:
    with pytest.raises(SchemaError):
        calls({"name": "f", "parameters": {"type": "unknown"}, "strict": True})


def test_calls_and_an_answer_may_stand_side_by_side() -> None:
    grammar = GrammarText()
    grammar.allow_json({"type": "object"})
    grammar.allow_calls([FunctionDefinition(name="f")], many=False)
    assert rules(grammar)["root"] == "(answer | call)"


def test_thinking_may_come_first() -> None:
    grammar = GrammarText("before")
    grammar.allow_json({"type": "object"})
    assert rules(grammar)["root"] == "thinking? (answer)"


def test_thinking_that_the_prompt_began_must_end() -> None:
    grammar = GrammarText("inside")
    grammar.allow_json({"type": "object"})
    assert rules(grammar)["root"] == "thoughts (answer)"
