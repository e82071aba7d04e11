"""GBNF grammars for what a request wants the output to look like.

JSON schemas are turned into rules by llama-cpp-python's converter, with its known faults mended. Like every such
converter it takes shape only: ``minimum``, ``maximum``, ``multipleOf``, ``not``, ``if``, ``uniqueItems`` and
formats other than dates, times and UUIDs do not bind the output, nor does what stands beside ``anyOf`` or ``oneOf``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from llama_cpp.llama_grammar import SchemaConverter

from serve.handlers.llamacpp.reasoning import State
from serve.handlers.llamacpp.tools import CLOSE, OPEN
from serve.protocol.requests import FunctionDefinition

#: The largest repetition that a schema may ask for. The converter writes each as nested brackets, which llama.cpp
#: reads with a recursive parser on the thread's stack.
MAX_REPETITION = 1000

#: White space between the parts of JSON. It is bounded, or a weak model could write spaces for ever.
_SPACE = r'| " " | "\n" [ \t]{0,20}'

#: A character of a JSON string. Control characters stand for themselves nowhere in JSON.
_CHARACTER = r'[^"\\\x7F\x00-\x1F] | [\\] (["\\bfnrt/] | "u" [0-9a-fA-F]{4})'

#: A schema for any JSON, in words that the converter knows.
_ANYTHING: dict[str, Any] = {"type": ["object", "array", "string", "number", "boolean", "null"]}

#: Keywords that say what JSON looks like; a schema with none of them takes anything.
_SHAPES = frozenset(
    {"$ref", "oneOf", "anyOf", "allOf", "const", "enum", "type", "properties", "additionalProperties", "items"}
    | {"prefixItems", "pattern", "format", "minLength", "maxLength"}
)

_REPETITIONS = ("minLength", "maxLength", "minItems", "maxItems")
_QUANTIFIER = re.compile(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}")

#: What the converter raises on a schema that it was not written for.
_CONVERTER_FAULTS = (AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_THINKING = r'([^<] | "<" [^/])* "</think>" "\n"{0,2}'


class SchemaError(ValueError):
    """A JSON schema that cannot become a grammar."""


class GrammarText:
    """A grammar that is put together of rules.

    Args:
        thinking: what may stand in front: nothing, an optional ``<think>`` block ("before"), or the rest of one that
            the prompt has opened ("inside").
    """

    def __init__(self, thinking: State = "after") -> None:
        self._converter = _Converter()
        self._thinking = thinking
        self._ways: list[str] = []

    def allow_json(self, schema: dict[str, Any]) -> None:
        """Let the output be JSON that follows ``schema``.

        Raises:
            SchemaError: it cannot be converted.
        """
        self._ways.append(self._converter.rule(schema, "answer"))

    def allow_calls(self, functions: Sequence[FunctionDefinition], *, many: bool) -> None:
        """Let the output be a call of one of ``functions``, or of ``many`` one after the other.

        A function's arguments follow its schema. Where that cannot be converted they are any object, unless the
        function is ``strict``.

        Raises:
            SchemaError: the schema of a strict function cannot be converted.
        """
        calls = " | ".join(self._call(place, function) for place, function in enumerate(functions))
        one = f'"{OPEN}\\n{{\\"name\\": " ({calls}) "}}\\n{CLOSE}"'
        self._converter.add("call", one)
        self._ways.append('call ("\\n" call)*' if many else "call")

    def text(self) -> str:
        """The grammar as GBNF."""
        prefix = {"after": "", "before": "thinking? ", "inside": "thoughts "}[self._thinking]
        self._converter.add("thoughts", _THINKING)
        self._converter.add("thinking", '"<think>" thoughts')
        self._converter.add("root", f"{prefix}({' | '.join(self._ways)})")
        return str(self._converter.format_grammar())

    def _call(self, place: int, function: FunctionDefinition) -> str:
        schema = function.parameters or {"type": "object", "properties": {}}
        try:
            arguments = self._converter.rule(schema, f"arguments-{place}")
        except SchemaError:
            if function.strict:
                raise
            arguments = self._converter.rule({"type": "object"}, f"arguments-{place}")
        return f'"\\"{function.name}\\", \\"arguments\\": " {arguments}'


class _Converter(SchemaConverter):  # type: ignore[misc]
    """llama-cpp-python's converter, mended where its rules are no JSON or lose parts of a schema."""

    def __init__(self) -> None:
        super().__init__(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)
        self._rules["space"] = _SPACE
        self._rules["char"] = _CHARACTER
        self._root: dict[str, Any] = {}  # the schema that is being converted, and the name of its rule
        self._scope = ""
        self._names: dict[tuple[str, str], str] = {}

    def rule(self, schema: dict[str, Any], name: str) -> str:
        """Add the rules of ``schema``; the name of the first."""
        try:
            _check_repetitions(schema)
            self._root, self._scope = schema, name
            return self.visit(schema, name)
        except _CONVERTER_FAULTS as failure:
            raise SchemaError(f"The schema cannot be turned into a grammar: {_reason(failure)}.") from failure

    def add(self, name: str, rule: str) -> None:
        """Add a rule under exactly this name."""
        self._rules[name] = rule

    def visit(self, schema: dict[str, Any] | bool, name: str) -> str:
        """As the converter, but a schema can take anything, and a list of types keeps the rest of the schema."""
        if isinstance(schema, bool):
            if not schema:
                raise ValueError("a schema that nothing fits")
            schema = {}
        if not _SHAPES & set(schema):
            schema = _ANYTHING
        if schema.get("items") in ({}, True):
            schema = {**schema, "items": _ANYTHING}
        if isinstance(schema.get("type"), list) and not {"enum", "const"} & set(schema):
            schema = {"anyOf": [{**schema, "type": kind} for kind in schema["type"]]}
        if "allOf" in schema:
            parts = [self._target(part["$ref"]) if "$ref" in part else part for part in schema["allOf"]]
            schema = {**schema, "allOf": parts}
        return str(super().visit(schema, name))

    def _resolve_ref(self, ref: str) -> str:
        """As the converter, but references are found wherever they stand, and two that end alike get two rules."""
        key = (self._scope, ref)
        if key not in self._names:
            self._names[key] = f"ref-{len(self._names)}"
            self._names[key] = self.visit(self._target(ref), self._names[key])
        return self._names[key]

    def _target(self, ref: str) -> dict[str, Any]:
        """The schema that a JSON pointer (RFC 6901) points to."""
        if not ref.startswith("#"):
            raise ValueError(f"a reference out of the schema, {ref!r}")
        target: Any = self._root
        for step in unquote(ref).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            target = target[int(step)] if isinstance(target, list) else target[step]
        found: dict[str, Any] = target
        return found

    def _format_literal(self, literal: str) -> str:
        """As the converter, but backslashes of the JSON text stay what they are."""
        text = json.dumps(json.loads(literal), ensure_ascii=False)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def _add_primitive(self, name: str, rule: object) -> str:
        """As the converter, with a JSON string's character for its own."""
        if name == "char":
            return name
        return str(super()._add_primitive(name, rule))


def _check_repetitions(schema: object) -> None:
    """Refuse what would become a grammar too large to parse."""
    if isinstance(schema, list):
        for part in schema:
            _check_repetitions(part)
    if not isinstance(schema, dict):
        return
    counts = [schema[name] for name in _REPETITIONS if isinstance(schema.get(name), int)]
    if isinstance(schema.get("pattern"), str):
        counts += [int(n) for found in _QUANTIFIER.findall(schema["pattern"]) for n in found if n]
    if any(count > MAX_REPETITION for count in counts):
        raise ValueError(f"a repetition of more than {MAX_REPETITION}")
    for part in schema.values():
        _check_repetitions(part)


def _reason(failure: Exception) -> str:
    if isinstance(failure, LookupError):
        return f"{failure} is missing"
    return str(failure) or type(failure).__name__
