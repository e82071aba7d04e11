"""``python -m serve.settings``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from serve.settings.__main__ import main
from tests.unit.settings.group import config


@pytest.fixture
def right(tmp_path: Path) -> str:
    """The path of a right config."""
    path = tmp_path / "right.yaml"
    path.write_text(yaml.safe_dump(config()))
    return str(path)


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    """The path of a config with two faults."""
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(config() | {"one": 1, "two": 2}))
    return str(path)


def test_a_right_config_is_told_with_its_models(right: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([right]) == 0
    assert capsys.readouterr() == (f"{right}: right; quick, strong\n", "")


def test_faults_go_to_standard_error_a_line_each(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([wrong]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert [line.split(":")[:2] for line in errors.splitlines()] == [[wrong, " one"], [wrong, " two"]]


def test_every_file_is_checked_even_after_a_wrong_one(
    right: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([wrong, right]) == 1
    assert "right; quick" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--unknown"]])
def test_wrong_usage_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_module_runs_as_a_program_and_passes_the_exit_code_on(tmp_path: Path) -> None:
    missing = str(tmp_path / "no.yaml")
    run = subprocess.run(
        [sys.executable, "-m", "serve.settings", missing],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (1, "", f"{missing}: No such file or directory\n")
