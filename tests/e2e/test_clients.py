"""Clients that the project did not write: the openai SDK and langchain-openai, on real models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from tests.group import Group

SMALL, STRONG, EMBEDDER = "smollm2-135m", "qwen2.5-coder-0.5b", "multilingual-e5-small"
QUESTION: Any = [{"role": "user", "content": "What is the capital of Japan?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@pytest.fixture(scope="module")
def client(group: Group) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{group.url}/v1", api_key="not needed here", timeout=120) as made:
        yield made


@pytest.fixture
async def async_client(group: Group) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{group.url}/v1", api_key="not needed here", timeout=120) as made:
        yield made


def test_the_sdk_gets_an_answer_with_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=STRONG, messages=QUESTION, temperature=0)
    assert "Tokyo" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.total_tokens > 30


def test_the_sdk_streams_the_same_text_as_it_gets_whole(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=STRONG, messages=QUESTION, temperature=0)
    text, usage = "", None
    options: Any = {"include_usage": True}
    for chunk in client.chat.completions.create(
        model=STRONG, messages=QUESTION, temperature=0, stream=True, stream_options=options
    ):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        usage = chunk.usage or usage
    assert text == whole.choices[0].message.content
    assert usage is not None and whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens


async def test_the_async_sdk_runs_many_at_once(async_client: openai.AsyncOpenAI) -> None:
    answers = await asyncio.gather(
        *(async_client.chat.completions.create(model=SMALL, messages=QUESTION, temperature=0) for _ in range(6))
    )
    assert all("Tokyo" in (one.choices[0].message.content or "") for one in answers)


async def test_the_async_sdk_streams(async_client: openai.AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(model="auto", messages=QUESTION, temperature=0, stream=True)
    assert "Tokyo" in "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def test_the_sdk_calls_a_tool_and_the_model_reads_its_result(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = client.chat.completions.create(
        model=STRONG, messages=messages, tools=[WEATHER], tool_choice="required", temperature=0
    )
    [call] = first.choices[0].message.tool_calls or []
    assert first.choices[0].finish_reason == "tool_calls"
    assert call.type == "function" and call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    messages += [
        first.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "21 degrees and sunny"},
        {"role": "user", "content": "Say that in one plain sentence."},
    ]
    second = client.chat.completions.create(
        model=STRONG, messages=messages, tools=[WEATHER], tool_choice="none", temperature=0
    )
    assert "21" in (second.choices[0].message.content or "")


def test_a_streamed_tool_call_adds_up_to_the_whole_one(client: openai.OpenAI) -> None:
    name = arguments = ""
    for chunk in client.chat.completions.create(
        model=STRONG,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        temperature=0,
        stream=True,
    ):
        for piece in chunk.choices[0].delta.tool_calls or []:
            assert piece.function is not None
            name += piece.function.name or ""
            arguments += piece.function.arguments or ""
    assert name == "get_weather" and json.loads(arguments) == {"city": "Paris"}


def test_the_sdk_parses_structured_output(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=STRONG,
        messages=[{"role": "user", "content": "Anna is 34 years old. Who is she, and how old?"}],
        response_format=Person,
        temperature=0,
    )
    person = answer.choices[0].message.parsed
    assert person is not None and person.name.startswith("Anna") and person.age == 34


def test_the_sdk_gets_logprobs_and_several_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=SMALL, messages=QUESTION, n=2, logprobs=True, top_logprobs=3, max_tokens=5, temperature=1.0, seed=7
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.logprobs is not None and choice.logprobs.content is not None
        assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in choice.logprobs.content)


def test_the_sdk_completes_and_embeds_and_lists(client: openai.OpenAI) -> None:
    completed = client.completions.create(
        model=STRONG, prompt="The capital of France is", max_tokens=4, temperature=0
    )
    assert "Paris" in completed.choices[0].text
    embedded = client.embeddings.create(model=EMBEDDER, input=["a cat", "a kitten", "a tax form"])
    cat, kitten, form = (one.embedding for one in embedded.data)
    assert len(cat) == 384 and dot(cat, kitten) > dot(cat, form)
    assert {one.id for one in client.models.list()} == {SMALL, STRONG, EMBEDDER, "auto"}
    assert client.models.retrieve(SMALL).owned_by == "HuggingFaceTB"


def test_the_sdk_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=STRONG):
        client.chat.completions.create(model="gpt-none", messages=QUESTION)
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=SMALL, messages=QUESTION, temperature=9)
    assert wrong.value.param == "temperature"
    long: Any = [{"role": "user", "content": "word " * 6000}]
    with pytest.raises(openai.BadRequestError, match="4096") as overflow:
        client.chat.completions.create(model=SMALL, messages=long)
    assert overflow.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=EMBEDDER, messages=QUESTION)


def test_what_the_sdk_stores_can_be_read_and_rated(client: openai.OpenAI, group: Group) -> None:
    for stream in (False, True):
        made: Any = client.chat.completions.create(
            model=SMALL, messages=QUESTION, temperature=0, store=True, metadata={"run": str(stream)}, stream=stream
        )
        completion_id = [chunk.id for chunk in made][-1] if stream else made.id
        found = group.client.get(f"/v1/conversations/{completion_id}").json()
        assert found["metadata"] == {"run": str(stream)}
        assert "Tokyo" in found["choices"][0]["message"]["content"]
        body = {"conversation_id": completion_id, "rating": "down", "correction": "Tokyo."}
        assert group.client.post("/v1/feedback", json=body).json()["rating"] == "down"
        listed = group.client.get("/v1/conversations", params={"metadata[run]": str(stream)}).json()["data"]
        assert [one["id"] for one in listed] == [completion_id]
    client.chat.completions.create(model=SMALL, messages=QUESTION, max_tokens=1, metadata={"run": "unstored"})
    assert group.client.get("/v1/conversations", params={"metadata[run]": "unstored"}).json()["data"] == []


def test_langchain_answers_streams_embeds_calls_and_structures(group: Group) -> None:
    model = ChatOpenAI(
        base_url=f"{group.url}/v1", api_key=SecretStr("not needed here"), model=STRONG, temperature=0, timeout=120
    )
    assert "Tokyo" in str(model.invoke("What is the capital of Japan?").content)
    assert "Tokyo" in "".join(str(chunk.content) for chunk in model.stream("What is the capital of Japan?"))
    called: Any = model.bind_tools([WEATHER], tool_choice="get_weather").invoke("What is the weather in Paris?")
    assert called.tool_calls[0]["name"] == "get_weather" and called.tool_calls[0]["args"] == {"city": "Paris"}
    person = model.with_structured_output(Person, method="json_schema").invoke("Anna is 34 years old.")
    assert isinstance(person, Person) and person.age == 34
    embeddings = OpenAIEmbeddings(
        openai_api_base=f"{group.url}/v1",
        openai_api_key=SecretStr("not needed here"),
        model=EMBEDDER,
        check_embedding_ctx_length=False,
    )
    assert len(embeddings.embed_query("a cat")) == 384


def dot(one: list[float], other: list[float]) -> float:
    """The scalar product, which is the cosine of vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))
