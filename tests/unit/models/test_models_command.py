"""``python -m serve.models``: what it prints and how it exits."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.models import ModelSourceError, local_path
from serve.models.__main__ import main
from serve.settings.weights import FolderSettings, WeightsSettings
from tests.unit.models.files import CONTENT, FILES, OTHER, folder_of, lay_out, weights_of, write_config
from tests.unit.models.web import Site


@pytest.fixture(autouse=True)
def _environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPQWEN_MODELS_DIR", str(root))


@pytest.fixture
def config(tmp_path: Path, site: Site) -> str:
    """A config of the model ``tiny``, of one that no source has, and of one that needs no file."""
    good = weights_of({"url": site.url}).model_dump(exclude_none=True)
    bad = weights_of({"path": "/no/such/file"}).model_dump(exclude_none=True)
    return str(write_config(tmp_path / "group.yaml", tiny=good, lost=bad, echo=None))


def test_fetch_brings_the_named_model(root: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--config", config, "tiny"]) == 0
    assert capsys.readouterr().out == f"tiny: {root}/tiny/model.gguf\n"
    assert (root / "tiny" / "model.gguf").read_bytes() == CONTENT


def test_a_model_that_fails_does_not_keep_the_others_from_their_turn(
    root: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "--config", config, "lost", "tiny", "echo"]) == 1
    told = capsys.readouterr()
    reason = "no source gave the file (/no/such/file: there is no such file)"
    assert told.err.splitlines()[0] == f"error: lost: {reason}"
    assert told.out.splitlines() == ["echo: needs no file", f"tiny: {root}/tiny/model.gguf"]


def test_fetch_with_no_names_takes_the_whole_config(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--config", config]) == 1
    told = capsys.readouterr()
    assert "tiny: " in told.out and "echo: " in told.out and "error: lost: " in told.err


def test_verify_tells_right_from_wrong(root: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--config", config, "tiny"]) == 1
    assert capsys.readouterr().err == "error: tiny: there is no file yet; fetch it first\n"
    main(["fetch", "--config", config, "tiny"])
    capsys.readouterr()
    assert main(["verify", "--config", config, "tiny"]) == 0
    assert capsys.readouterr().out == f"tiny: {root}/tiny/model.gguf is right\n"
    (root / "tiny" / "model.gguf").write_bytes(OTHER)
    assert main(["verify", "--config", config, "tiny"]) == 1
    assert "is not right: its SHA-256 is " in capsys.readouterr().err


def test_list_shows_every_state(root: Path, config: str, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    local_path("tiny", weights_of({"url": site.url}))
    local_path("older", weights_of({"url": site.url}))
    assert main(["list", "--config", config]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["MODEL", "STATE", "SIZE", "SOURCE", "WHERE"],
        ["tiny", "ready", "1.0", "MB", site.url, f"{root}/tiny/model.gguf"],
        ["lost", "absent", "1.0", "MB", "path", f"{root}/lost/model.gguf"],
        ["older", "ready,", "not", "in", "the", "config", "1.0", "MB", site.url, f"{root}/older/model.gguf"],
    ]


def test_list_says_when_the_config_asks_for_another_file(
    root: Path, tmp_path: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    local_path("tiny", weights_of({"url": site.url}))
    newer = weights_of({"url": site.url}, content=OTHER).model_dump(exclude_none=True)
    assert main(["list", "--config", str(write_config(tmp_path / "group.yaml", tiny=newer))]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["tiny", "outdated"]


def test_remove_needs_no_config(root: Path, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    local_path("tiny", weights_of({"url": site.url}))
    assert main(["remove", "--yes", "tiny"]) == 0
    assert capsys.readouterr().out == "tiny: 1.0 MB freed\n"
    assert not (root / "tiny" / "model.gguf").exists()


@pytest.mark.parametrize(
    "arguments",
    [[], ["download"], ["fetch", "--handlers"], ["remove"], ["remove", "tiny"], ["fetch", "--config"]],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_an_unknown_model_exits_with_2_and_names_the_nearest(
    command: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--config", config, "tiy"])
    assert caught.value.code == 2
    assert "unknown model 'tiy'; did you mean 'tiny'? Known: echo, lost, tiny" in capsys.readouterr().err


def test_remove_of_a_model_that_is_not_here_exits_with_2_and_removes_nothing(
    root: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    local_path("tiny", weights_of({"url": site.url}))
    with pytest.raises(SystemExit) as caught:
        main(["remove", "--yes", "tiny", "other"])
    assert caught.value.code == 2
    assert (root / "tiny" / "model.gguf").exists()


def test_a_config_that_is_not_there_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--config", "/no/such.yaml"]) == 1
    assert capsys.readouterr().err == "error: /no/such.yaml: No such file or directory\n"


def test_a_setting_of_the_environment_that_cannot_be_used_exits_with_1(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GROUPQWEN_HOME", "relative")
    assert main(["list", "--config", config]) == 1
    assert "error: GROUPQWEN_HOME must be an absolute path" in capsys.readouterr().err


def _json(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_fetch_tells_scripts_what_went_right_and_wrong(
    root: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "--json", "--config", config]) == 1
    rows = {row.pop("model"): row for row in _json(capsys)}
    assert rows["tiny"] == {"ok": True, "path": f"{root}/tiny/model.gguf"}
    assert rows["echo"] == {"ok": True, "path": None}
    assert rows["lost"]["ok"] is False and "no source gave the file" in rows["lost"]["error"]


def test_list_tells_scripts_sizes_states_and_sources(
    root: Path, config: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    local_path("tiny", weights_of({"url": site.url}))
    local_path("older", weights_of({"url": site.url}))
    assert main(["list", "--json", "--config", config]) == 0
    assert _json(capsys) == [
        {
            "model": "tiny",
            "state": "ready",
            "in_config": True,
            "bytes": 1_000_000,
            "total_bytes": 1_000_000,
            "path": f"{root}/tiny/model.gguf",
            "source": site.url,
            "sources": [{"url": site.url}],
        },
        {
            "model": "lost",
            "state": "absent",
            "in_config": True,
            "bytes": 0,
            "total_bytes": 1_000_000,
            "path": f"{root}/lost/model.gguf",
            "source": None,
            "sources": [{"path": "/no/such/file"}],
        },
        {
            "model": "older",
            "state": "ready",
            "in_config": False,
            "bytes": 1_000_000,
            "total_bytes": None,
            "path": f"{root}/older/model.gguf",
            "source": site.url,
        },
    ]


def test_list_takes_names(config: str, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    local_path("older", weights_of({"url": site.url}))
    assert main(["list", "--config", config, "lost"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["MODEL", "lost"]


def test_list_says_how_much_of_a_model_is_here(config: str, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.cuts = [700_000, 0, 0]
    with pytest.raises(ModelSourceError):
        local_path("tiny", weights_of({"url": site.url}))
    assert main(["list", "--config", config, "tiny"]) == 0
    columns = capsys.readouterr().out.splitlines()[1].split()
    assert columns[:7] == ["tiny", "partial", "0.7", "MB", "of", "1.0", "MB"]


def test_a_secret_of_an_address_is_not_listed(tmp_path: Path, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    secret = weights_of({"url": f"http://me:hunter2@127.0.0.1:{site.port}/a?signature=hunter2"})
    config = str(write_config(tmp_path / "g.yaml", tiny=secret.model_dump(exclude_none=True)))
    for arguments in (["--json"], []):
        assert main(["list", *arguments, "--config", config]) == 0
        assert "hunter2" not in capsys.readouterr().out


def test_folders_are_fetched_verified_listed_and_removed(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = lay_out(tmp_path / "own", FILES)
    weights = folder_of({"uri": f"file://{own}"}, entry="config.json").model_dump(exclude_none=True)
    config = str(write_config(tmp_path / "group.yaml", tiny=weights))
    assert main(["list", "--config", config]) == 0
    assert "tiny   absent  1.0 MB  uri" in capsys.readouterr().out
    assert main(["fetch", "--config", config]) == 0
    assert capsys.readouterr().out == f"tiny: {root}/tiny/checkpoint/config.json\n"
    assert main(["verify", "--config", config]) == 0
    assert capsys.readouterr().out == f"tiny: {root}/tiny/checkpoint is right\n"
    assert main(["list", "--json", "--config", config]) == 0
    (row,) = _json(capsys)
    assert (row["state"], row["bytes"], row["path"]) == ("ready", 1_000_026, f"{root}/tiny/checkpoint")
    assert main(["remove", "--yes", "--json", "tiny"]) == 0
    assert _json(capsys) == [{"model": "tiny", "ok": True, "freed_bytes": 1_000_026}]


def test_models_that_do_not_fit_on_the_disk_are_refused_in_one_line(
    root: Path, config: str, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(5, 0, 5))
    assert main(["fetch", "--config", config]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: not enough disk space: 68.1 MB needed in {root}, 0.0 MB free")
    assert site.asked == []


def _answering(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Put a person at the terminal who says this."""
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("Yes\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_remove_asks_the_person_at_a_terminal(
    root: Path,
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    code: int,
) -> None:
    path = local_path("tiny", weights_of({"url": site.url}))
    _answering(monkeypatch, answer)
    assert main(["remove", "tiny"]) == code
    assert path.exists() == bool(code)
    assert capsys.readouterr().err.startswith("remove the weights of tiny from this node? [y/N] ")


def test_remove_does_nothing_when_nobody_can_be_asked(
    root: Path, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = local_path("tiny", weights_of({"url": site.url}))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(SystemExit) as caught:
        main(["remove", "tiny"])
    assert caught.value.code == 2
    assert "say --yes to remove without asking" in capsys.readouterr().err
    assert path.exists()


def test_describe_prints_what_a_config_says_of_a_file(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = lay_out(tmp_path / "own", {"model.gguf": CONTENT}) / "model.gguf"
    assert main(["describe", str(own)]) == 0
    raw = yaml.safe_load(capsys.readouterr().out)["weights"]
    assert raw["sources"] == [{"path": str(own)}]
    assert local_path("tiny", WeightsSettings.model_validate(raw), root=root) == own


def test_describe_prints_what_a_config_says_of_a_folder(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = lay_out(tmp_path / "own", {**FILES, ".cache/x": b"x", ".gitattributes": b"y"})
    assert main(["describe", str(own)]) == 0
    raw = yaml.safe_load(capsys.readouterr().out)["weights"]
    assert {file["file"] for file in raw["files"]} == {*FILES, ".gitattributes"}
    assert local_path("tiny", FolderSettings.model_validate(raw), root=root) == own


@pytest.mark.parametrize(
    ("name", "reason"), [("none", "No such file or directory"), ("empty", "there is no file in it")]
)
def test_describe_of_nothing_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["describe", str(tmp_path / name)]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/{name}: {reason}\n"
