"""When a model's file is mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve.devices import llama_probe
from serve.handlers.llamacpp import order
from serve.handlers.llamacpp.model import Model
from serve.settings.engines import LlamaCppEngine


def mapped(path: Path) -> bool:
    """Whether the file is mapped into this process."""
    return str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what is mapped")
@pytest.mark.parametrize(
    ("amx", "engine", "expected"),
    [
        (False, {}, True),
        (True, {}, False),
        (False, {"mmap": False}, False),
        (True, {"mmap": True}, True),
    ],
)
def test_a_file_is_mapped_where_its_weights_are_used_as_they_lie_or_the_settings_say_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, amx: bool, engine: dict[str, Any], expected: bool
) -> None:
    monkeypatch.setattr(order, "_has_amx", lambda: amx)
    path = tmp_path / "tiny.gguf"
    llama_probe.write_model(path)
    model = Model(path, LlamaCppEngine(**engine))
    assert mapped(path) is expected
    del model


def test_what_goes_to_a_gpu_is_not_reordered_for_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "_has_amx", lambda: True)
    assert order.reorders_weights(LlamaCppEngine())
    assert not order.reorders_weights(LlamaCppEngine(gpu_layers=-1))
