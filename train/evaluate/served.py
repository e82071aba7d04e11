"""The serving side: a group's own API, asked as any client asks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from serve.settings.environment import read_secret

Json = dict[str, Any]

_SECONDS = 600.0
_AT_ONCE = 4


class ServedError(Exception):
    """The group cannot be asked; the message is one line."""


@dataclass(frozen=True, slots=True)
class Said:
    """A served answer.

    Attributes:
        tokens: as the model wrote them. logprobs: of each, in nats.
        ended: whether the model ended it by itself.
    """

    text: str
    tokens: list[str]
    logprobs: list[float]
    ended: bool


class Served:
    """A group at ``url``, such as ``http://127.0.0.1:8000``.

    Args:
        key_variable: the environment variable that holds an API key.
    """

    def __init__(self, url: str, key_variable: str | None = None) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ServedError(f"{url!r} is no http or https address of a group")
        self._url = url.rstrip("/").removesuffix("/v1")
        self._headers = {"authorization": f"Bearer {read_secret(key_variable)}"} if key_variable else {}

    def answer(
        self,
        model: str,
        conversations: Sequence[Sequence[Json]],
        max_tokens: int,
        *,
        variables: Json | None = None,
        thinking: bool = True,
        progress: Callable[[int], None] = lambda count: None,
    ) -> list[Said]:
        """The likeliest answer of ``model`` to each conversation.

        Args:
            thinking: leave it to the model whether it reasons first; else it is asked not to.

        Raises:
            ServedError: an answer does not come; says why.
        """

        def ask(messages: Sequence[Json]) -> Said:
            body: Json = {
                "model": model,
                "messages": list(messages),
                "temperature": 0,
                "max_tokens": max_tokens,
                "logprobs": True,
            }
            if variables:
                body["chat_template_kwargs"] = variables
            if not thinking:
                body["reasoning_effort"] = "none"
            said = _said(self._post(body))
            progress(1)
            return said

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="asking") as threads:
            return list(threads.map(ask, conversations))

    def has(self, adapter: str, version: str) -> bool:
        """Whether the group lists ``adapter``, an ``id:adapter``, as ready and with this content.

        Raises:
            ServedError: it cannot be asked.
        """
        try:
            answer = requests.get(f"{self._url}/v1/models/{adapter}", headers=self._headers, timeout=30)
        except requests.RequestException as failure:
            raise ServedError(f"{self._url} does not answer: {type(failure).__name__}") from failure
        if answer.status_code != 200:
            return False
        found = answer.json()
        return (found.get("state"), found.get("version")) == ("ready", version)

    def _post(self, body: Json) -> Json:
        try:
            answer = requests.post(
                f"{self._url}/v1/chat/completions", json=body, headers=self._headers, timeout=_SECONDS
            )
        except requests.RequestException as failure:
            raise ServedError(f"{self._url} does not answer: {type(failure).__name__}") from failure
        if answer.status_code != 200:
            raise ServedError(f"{self._url}: {body['model']}: {answer.status_code}: {_reason(answer)}")
        found: Json = answer.json()
        return found


def _said(answer: Json) -> Said:
    choice = answer["choices"][0]
    parts = (choice.get("logprobs") or {}).get("content") or []
    return Said(
        choice["message"].get("content") or "",
        [one["token"] for one in parts],
        [one["logprob"] for one in parts],
        choice["finish_reason"] == "stop",
    )


def _reason(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "no error of this group's API"
