"""The real models of the default config, fetched when they are not here yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve.models import fetch, local_path
from serve.settings.config import load
from serve.settings.environment import Environment
from serve.settings.model import ModelSettings
from tests.group import ROOT
from tests.torchvision import make_importable
from tests.vllm import smollm2_folder, thinking_tokenizer
from train.dataset.formats import Chat

_patch = pytest.MonkeyPatch()


def pytest_configure(config: pytest.Config) -> None:
    """transformers looks for torchvision when it is first imported, which any module of tests may do."""
    make_importable(Environment.read().home / "tests" / "torchvision", _patch)


def pytest_unconfigure(config: pytest.Config) -> None:
    _patch.undo()


def _settings(model_id: str) -> ModelSettings:
    [found] = [one for one in load(ROOT / "configs" / "local.yaml").models if one.id == model_id]
    assert found.weights is not None
    fetch(found.id, found.weights, progress=False)
    return found


@pytest.fixture(scope="session")
def smollm2_settings() -> ModelSettings:
    return _settings("smollm2-135m")


@pytest.fixture(scope="session")
def qwen_settings() -> ModelSettings:
    return _settings("qwen2.5-coder-0.5b")


@pytest.fixture(scope="session")
def smollm2_checkpoint() -> Path:
    return smollm2_folder()


@pytest.fixture(scope="session")
def qwen_chat(qwen_settings: ModelSettings) -> Chat:
    """Read out of the GGUF file once: that takes half a minute."""
    assert qwen_settings.weights is not None
    return Chat.load(str(local_path(qwen_settings.id, qwen_settings.weights)))


@pytest.fixture(scope="session")
def qwen_thinking_tokenizer(qwen_chat: Chat) -> Any:
    return thinking_tokenizer(qwen_chat.tokenizer)
