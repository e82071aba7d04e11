"""Real tokenizers: what is learned by SmolLM2 and by a Qwen is the answers and their end marks, and nothing else."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from serve.models import local_path
from serve.settings.model import ModelSettings
from tests.unit.train.dataset.formats.rows import answer, call, result, row, user
from train.dataset.formats import Chat, Encoded, EncodeSettings, encode
from train.dataset.formats.chat import messages_for, tools_for
from train.dataset.formats.unfit import Unfit

SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
SAID = [
    "Paris.",
    "two  spaces,\ttab\nand a line\n\n",
    "It's 2026-11-23, and 1234567.89 costs 5€.",
    "naïve café: Grüße, Привет, 你好, こんにちは, 😀👩‍👩‍👧",
    "مرحبا بالعالم",
    "def f(x):\n    return {'a': [1, 2]}\n",
    "<think>not reasoned</think> <b>but</b> said",
]


@pytest.fixture(scope="module")
def smollm2(smollm2_settings: ModelSettings) -> Chat:
    assert smollm2_settings.weights is not None
    return Chat.load(str(local_path(smollm2_settings.id, smollm2_settings.weights)))


@pytest.fixture
def qwen(qwen_chat: Chat) -> Chat:
    return qwen_chat


@pytest.fixture(params=["smollm2", "qwen"])
def any_model(request: pytest.FixtureRequest) -> Chat:
    found: Chat = request.getfixturevalue(request.param)
    return found


def learned(encoded: Encoded, chat: Chat) -> list[str]:
    marked = zip(encoded.input_ids, encoded.learned, strict=True)
    return [
        chat.tokenizer.decode([token for token, _ in run], clean_up_tokenization_spaces=False)
        for wanted, run in groupby(marked, key=lambda pair: pair[1])
        if wanted
    ]


def templates_own(chat: Chat, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> list[int]:
    found = chat.tokenizer.apply_chat_template(messages, tools=tools, return_dict=True)
    ids: list[int] = found["input_ids"]
    return ids


def test_many_turns_of_every_script(any_model: Chat) -> None:
    talk = row(SYSTEM, *(said for text in SAID for said in (user(f"Say {text}"), answer(text))))
    [encoded] = encode(talk, any_model, EncodeSettings())
    assert learned(encoded, any_model) == [f"{text}<|im_end|>" for text in SAID]
    assert encoded.input_ids == templates_own(any_model, messages_for(talk))


def test_no_token_reaches_from_the_prompt_into_an_answer(any_model: Chat) -> None:
    talk = row(SYSTEM, user("1?"), answer("\n  one"), user("2?"), answer("  two"))
    [encoded] = encode(talk, any_model, EncodeSettings())
    assert learned(encoded, any_model) == ["\n  one<|im_end|>", "  two<|im_end|>"]
    prompt = any_model.tokenizer.apply_chat_template(
        messages_for(talk)[:2], add_generation_prompt=True, return_dict=True
    )
    assert encoded.input_ids[: encoded.learned.index(True)] == prompt["input_ids"]
    assert any_model.tokenizer.decode(encoded.input_ids) == encoded.text


def test_the_templates_own_system_prompt_is_context(any_model: Chat) -> None:
    [encoded] = encode(row(user("Capital?"), answer("Paris.")), any_model, EncodeSettings())
    assert "<|im_start|>system\nYou are" in encoded.text
    assert learned(encoded, any_model) == ["Paris.<|im_end|>"]


def test_no_mark_is_doubled_at_either_end(any_model: Chat) -> None:
    [encoded] = encode(row(SYSTEM, user("Capital?"), answer("Paris.")), any_model, EncodeSettings())
    tokens = any_model.tokenizer.convert_ids_to_tokens(encoded.input_ids)
    assert [token for token in tokens if token.startswith("<|")] == ["<|im_start|>", "<|im_end|>"] * 3
    assert any_model.ends_answers


def test_weight_0_is_context(any_model: Chat) -> None:
    talk = row(user("1?"), answer("one", weight=0), user("2?"), answer("two"))
    [encoded] = encode(talk, any_model, EncodeSettings())
    assert learned(encoded, any_model) == ["two<|im_end|>"]
    assert encoded.input_ids == templates_own(any_model, messages_for(talk))


def test_qwen_learns_to_call_tools_and_not_what_they_answer(qwen: Chat) -> None:
    calls = [call("weather", '{"city": "Köln"}'), call("weather", '{"city": "Oslo"}', id="c2")]
    talk = row(
        user("Weather?"),
        answer(tool_calls=calls),
        result("sunny"),
        result("rain", id="c2"),
        answer("Sun in Köln, rain in Oslo."),
        tools=TOOLS,
    )
    [encoded] = encode(talk, qwen, EncodeSettings())
    called = "\n".join(
        f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
        for city in ("Köln", "Oslo")
    )
    assert learned(encoded, qwen) == [f"{called}<|im_end|>", "Sun in Köln, rain in Oslo.<|im_end|>"]
    assert encoded.input_ids == templates_own(qwen, messages_for(talk), tools_for(talk))


def test_smollm2_whose_template_knows_no_tools_does_not_learn_to_say_nothing(smollm2: Chat) -> None:
    with pytest.raises(Unfit, match="answer_lost"):
        encode(row(user("Weather?"), answer(tool_calls=[call("weather")])), smollm2, EncodeSettings())


def test_a_qwen_that_thinks(qwen_thinking_tokenizer: Any) -> None:
    chat = Chat(qwen_thinking_tokenizer)
    talk = row(user("1?"), answer("<em>one</em>"), user("2?"), answer("two"))
    [encoded] = encode(talk, chat, EncodeSettings())
    assert learned(encoded, chat) == ["<em>one</em><|im_end|>", "two<|im_end|>"]
