"""The two ways of asking one model for a translation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx

from benchmarks.errors import BenchmarkError
from serve.handlers.translation.languages import languages

#: Takes a client, the model, the text, the target language's code, and the text's format.
Ask = Callable[[httpx.AsyncClient, str, str, str, str], Awaitable[str]]


async def by_task(client: httpx.AsyncClient, model: str, text: str, target: str, format: str) -> str:
    """By ``/v1/translate``."""
    body = {
        "model": model,
        "text": text,
        "source_lang": "en",
        "target_lang": target,
        "format": format,
        "strict": True,
    }
    answer = await client.post("/v1/translate", json=body)
    _require(answer)
    found: str = answer.json()["translations"][0]["text"]
    return found


async def plainly(client: httpx.AsyncClient, model: str, text: str, target: str, format: str) -> str:
    """By one chat completion."""
    name = languages()[target].name
    wish = f"Translate the following text from English to {name}. Reply with the translation only."
    body = {"model": model, "messages": [{"role": "user", "content": f"{wish}\n\n{text}"}]}
    answer = await client.post(
        "/v1/chat/completions",
        json={**body, "temperature": 0, "max_tokens": 64 + 3 * len(text)},
    )
    _require(answer)
    found: str = answer.json()["choices"][0]["message"]["content"]
    return found


SIDES: dict[str, Ask] = {"task": by_task, "plain": plainly}


def _require(answer: httpx.Response) -> None:
    if answer.status_code != 200:
        raise BenchmarkError(f"the group answered {answer.status_code}: {answer.text[:300]}")
