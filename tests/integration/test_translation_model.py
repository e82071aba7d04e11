"""The local Qwen as the translator: the form of a Markdown file is intact, whatever its language is worth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from serve.handlers.llamacpp.handler import LlamaCppHandler
from serve.settings.model import ModelSettings
from tests.unit.tasks.group import task_group

#: What must be in a translation as often as in its source.
FIXED = (
    r"\]\([^)\s]+\)",
    r"`[^`\n]+`",
    r"\{\w+\}",
    r"%[sd]",
    r"https?://[^\s)>]+",
    r"<[^>\n]+>",
    r"^#+ ",
    r"^\|",
    r"\*\*",
)
_CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)

GUIDE = """# Getting started

Welcome, **{name}**! Read the [manual](docs/manual.md) first.

| Option | Meaning |
| --- | --- |
| `--fast` | quick mode |

1. Run `make all`.
2. Open https://example.org/start in a browser.

```bash
echo "Hello, world"   # stays
```

> The server needs %d seconds.
"""


@pytest.fixture
async def translator(qwen_settings: ModelSettings, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    model = LlamaCppHandler(qwen_settings)
    await model.load()
    try:
        async with task_group(
            tmp_path, "translation", model, user_config={"context_chars": 0, "timeout": 900}
        ) as running:
            running.client.timeout = httpx.Timeout(900)
            yield running.client
    finally:
        await model.unload()


async def test_a_markdown_file_keeps_every_link_code_block_and_placeholder(translator: httpx.AsyncClient) -> None:
    files = {"file": ("guide.md", GUIDE.encode(), "text/markdown")}
    form = {"source_lang": "en", "target_lang": "Spanish", "model": "qwen2.5-coder-0.5b", "strict": "true"}
    answer = await translator.post("/v1/translate", data=form, files=files)
    assert answer.status_code == 200, answer.text
    text = answer.text
    for pattern in FIXED:
        found = re.compile(pattern, re.MULTILINE)
        assert Counter(found.findall(text)) == Counter(found.findall(GUIDE)), pattern
    assert _CODE.findall(text) == _CODE.findall(GUIDE)
    assert len(text.splitlines()) == len(GUIDE.splitlines())
    assert text != GUIDE


async def test_a_sentence_is_translated_and_streamed(translator: httpx.AsyncClient) -> None:
    body = {
        "model": "qwen2.5-coder-0.5b",
        "messages": [{"role": "user", "content": "The children are playing football in the park."}],
        "translation_options": {"source_lang": "en", "target_lang": "Spanish"},
        "stream": True,
    }
    answer = await translator.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200 and "niños" in answer.text, answer.text
