"""Chat templates."""

from __future__ import annotations

from typing import Any

import pytest

from serve.errors import InvalidRequest
from serve.handlers.llamacpp.template import ChatTemplate, template_variables
from serve.protocol.requests import ChatRequest, Message, Tool

ROLES = "{% for message in messages %}[{{ message.role }}:{{ message.content }}]{% endfor %}"
TOOLS = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
CALLS = "{% for call in messages[-1].tool_calls %}{{ call.function.arguments | tojson }}{% endfor %}"


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, bos="<s>", eos="</s>")


def message(**fields: Any) -> Message:
    return Message.model_validate({"role": "user", "content": "hi", **fields})


def call(arguments: str) -> Message:
    function = {"name": "f", "arguments": arguments}
    return message(role="assistant", content=None, tool_calls=[{"id": "call_1", "function": function}])


def test_messages_are_rendered_in_order() -> None:
    found = template(ROLES).render([message(content="one"), message(role="assistant", content="two")])
    assert found == "[user:one][assistant:two]"


def test_the_assistant_is_asked_to_speak() -> None:
    assert template("{% if add_generation_prompt %}go{% endif %}").render([message()]) == "go"


def test_blocks_leave_no_lines_behind() -> None:
    assert template("{% if true %}\n  {% set x = 1 %}\nx{% endif %}").render([message()]) == "x"


def test_a_developer_is_the_system() -> None:
    assert template(ROLES).render([message(role="developer", content="x")]) == "[system:x]"


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert template(ROLES).render([message(content=parts)]) == "[user:one two]"


def test_a_picture_is_refused_by_its_place() -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}]
    with pytest.raises(InvalidRequest, match="cannot see images") as raised:
        template(ROLES).render([message(), message(content=parts)])
    assert raised.value.param == "messages[1].content[1]"


def test_an_assistant_without_content_has_empty_content() -> None:
    assert template(ROLES).render([call("{}")]) == "[assistant:]"


def test_arguments_of_calls_are_objects() -> None:
    assert template(CALLS).render([call('{"city": "Zürich"}')]) == '{"city": "Zürich"}'


def test_no_arguments_are_an_empty_object() -> None:
    assert template(CALLS).render([call("")]) == "{}"


@pytest.mark.parametrize("arguments", ["{", "[" * 100_000])
def test_arguments_that_are_no_json_are_refused_by_their_place(arguments: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        template(CALLS).render([message(), call(arguments)])
    assert raised.value.param == "messages[1].tool_calls[0].function.arguments"


def test_tools_are_json_without_html_escapes() -> None:
    function = {"name": "f", "description": "<b> & 'c'", "parameters": {"type": "object"}, "strict": True}
    tool = Tool.model_validate({"type": "function", "function": function})
    expected = (
        '{"type": "function", "function":'
        ' {"name": "f", "description": "<b> & \'c\'", "parameters": {"type": "object"}}}'
    )
    assert template(TOOLS).render([message()], [tool]) == expected


def test_without_tools_the_variable_is_none() -> None:
    assert template("{{ tools is none }}").render([message()]) == "True"


def test_special_tokens_are_known() -> None:
    assert template("{{ bos_token }}{{ eos_token }}").render([message()]) == "<s></s>"


def test_variables_of_the_request_reach_the_template() -> None:
    assert template("{{ mood }}").render([message()], extra={"mood": "glad"}) == "glad"


def test_the_templates_own_variables_cannot_be_replaced() -> None:
    with pytest.raises(InvalidRequest) as raised:
        template(ROLES).render([message()], extra={"messages": []})
    assert raised.value.param == "chat_template_kwargs"


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[5].content }}",
        "{{ 'a' + 1 }}",
        "{{ 1 / 0 }}",
        "{{ nothing.at.all }}",
    ],
)
def test_a_template_that_fails_blames_the_messages(source: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        template(source).render([message()])
    assert raised.value.param == "messages"


@pytest.mark.parametrize("source", ["{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}"])
def test_a_template_is_kept_in_its_sandbox(source: str) -> None:
    with pytest.raises(InvalidRequest):
        template(source).render([message()])


def test_a_template_can_ask_for_the_day() -> None:
    assert template("{{ strftime_now('%Y') }}").render([message()]).isdecimal()


def test_a_broken_template_is_named_at_load() -> None:
    with pytest.raises(RuntimeError, match="chat template"):
        template("{% for %}")


def test_a_template_shows_what_its_model_can_do() -> None:
    assert template(TOOLS + "<tool_call>").has_tools
    assert not template(TOOLS).has_tools
    assert not template(ROLES).has_tools
    assert template("<think>").reasons
    assert not template(ROLES).reasons


def test_no_reasoning_turns_thinking_off() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "chat_template_kwargs": {"a": 1}}
    assert template_variables(ChatRequest.model_validate(body)) == {"a": 1}
    quiet = ChatRequest.model_validate({**body, "reasoning_effort": "none"})
    assert template_variables(quiet) == {"a": 1, "enable_thinking": False}
