"""``python -m serve.adapters``: what a person types, and what is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.adapters.__main__ import main
from serve.adapters.registry import Registry
from serve.models.wanted import base_sha256
from serve.settings.config import load
from tests.group import ROOT
from tests.unit.adapters.test_registry import adapter

CONFIG = str(ROOT / "configs" / "local.yaml")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GROUPQWEN_ADAPTERS_DIR", str(tmp_path / "registry"))
    return tmp_path / "registry"


def test_publish_list_verify_withdraw(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(adapter(tmp_path / "a"))
    assert main(["publish", "smollm2-135m", "first", folder, "--config", CONFIG, "--training-data", "x"]) == 0
    manifest = Registry(root).manifest("smollm2-135m", "first")
    served = {one.id: one for one in load(CONFIG).models}["smollm2-135m"].weights
    assert served is not None and manifest.base.weights_sha256 == [base_sha256(served)]
    assert manifest.training_data == "x"
    assert main(["list"]) == 0
    assert f"smollm2-135m:first\t{manifest.version}\trank 4" in capsys.readouterr().out
    assert main(["verify"]) == 0
    assert main(["withdraw", "smollm2-135m", "first"]) == 0
    assert Registry(root).list() == []


def test_a_bad_adapter_does_not_keep_verify_from_the_others(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(adapter(tmp_path / "a"))
    for name in ("bad", "good"):
        assert main(["publish", "m", name, folder, "--base-sha256", "b" * 64]) == 0
    (root / "m" / "bad" / "manifest.json").write_text("{", encoding="utf-8")
    assert main(["verify", "m"]) == 1
    told = capsys.readouterr()
    assert "error: m:bad: manifest.json" in told.err and "m:good: version" in told.out


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["publish", "smollm", "a", "FOLDER", "--config", CONFIG], 2, "did you mean 'smollm2-135m'"),
        (["publish", "multilingual-e5-small", "a", "FOLDER", "--config", CONFIG], 2, "--base-sha256"),
        (["publish", "m", "a:b", "FOLDER", "--base-sha256", "b" * 64], 1, "cannot be the adapter name"),
        (["publish", "m", "a", "FOLDER", "--base-sha256", "beef"], 1, "base.weights_sha256"),
        (["publish", "m", "a", "/does/not/exist", "--base-sha256", "b" * 64], 1, "adapter_config.json is missing"),
        (["publish", "m", "a", "FOLDER", "--base-sha256", "b" * 64, "--evaluation", "/none"], 2, "No such file"),
        (["withdraw", "m", "none"], 1, "no adapter 'none'"),
        (["verify", "m", "none"], 1, "no adapter 'none'"),
        (["publish"], 2, "required"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    reason: str,
) -> None:
    folder = str(adapter(tmp_path / "a"))
    try:
        found = main([folder if one == "FOLDER" else one for one in arguments])
    except SystemExit as ended:
        found = ended.code if isinstance(ended.code, int) else -1
    assert found == code
    assert reason in capsys.readouterr().err
    assert not root.exists() or Registry(root).list() == []
