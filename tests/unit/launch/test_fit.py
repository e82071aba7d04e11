"""A start refuses a group that does not fit before it does anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve import models
from serve.launch.__main__ import main

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "local.yaml"


def test_a_group_that_does_not_fit_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(*_: object, **__: object) -> None:
        pytest.fail("it fetches")

    monkeypatch.setenv("GROUPQWEN_HOME", str(tmp_path))
    monkeypatch.setenv("GROUPQWEN_MEMORY_LIMIT", "1GB")
    monkeypatch.delenv("GROUPQWEN_MODELS_DIR", raising=False)
    monkeypatch.setattr(models, "fetch", fetch)
    assert main(["up", str(CONFIG)]) == 1
    output, errors = capsys.readouterr()
    assert output.startswith("MODEL") and "qwen2.5-coder-0.5b" in output
    [line] = errors.splitlines()
    assert line.startswith("error: the group does not fit: it needs at least ") and "1.00 GB" in line
