"""The models with no weights that every server under test answers with, so that only what is around them differs."""

from __future__ import annotations

from typing import Any

from serve.settings.model import ModelSettings

#: Tokens of each answer.
TOKENS = 32
#: Model id -> pause before each token, in milliseconds.
MODELS: dict[str, float] = {"echo-unpaced": 0.0, "echo-20ms": 20.0, "echo-5ms": 5.0}
#: What every answer must say, whichever server it came through.
TEXT = "".join(f" token{number}" for number in range(TOKENS))


def args(model: str) -> dict[str, Any]:
    """The ``args`` of one of ``MODELS`` in a Serve config."""
    return {"id": model, "handler": "echo", "engine": {"tokens": TOKENS, "token_ms": MODELS[model]}}


def settings(model: str) -> ModelSettings:
    """``args`` as the handler takes them."""
    return ModelSettings.model_validate(args(model))
