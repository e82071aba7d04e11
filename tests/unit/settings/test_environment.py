"""What is read from environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.settings.environment import SERVE_FLAGS, Environment
from serve.settings.errors import SettingsError


def test_an_empty_environment_gives_the_defaults() -> None:
    found = Environment.read({})
    home = Path.home() / ".groupqwen"
    assert found.home == home
    assert found.models_dir == home / "models"
    assert found.database_url == f"sqlite:///{home}/groupqwen.db"
    assert found.hub_endpoint == "https://huggingface.co"
    assert (found.internal_token, found.hub_token, found.haproxy) == ("", None, False)


def test_every_variable_is_taken() -> None:
    found = Environment.read(
        {
            "GROUPQWEN_HOME": "/srv/group",
            "GROUPQWEN_MODELS_DIR": "/models",
            "GROUPQWEN_ADAPTERS_DIR": "/shared/adapters",
            "GROUPQWEN_FILES_DIR": "/shared/files",
            "GROUPQWEN_RUNS": "s3://bucket/runs",
            "GROUPQWEN_DATABASE_URL": "postgresql+psycopg://u:p@h/d",
            "GROUPQWEN_INTERNAL_TOKEN": "t",
            "HF_ENDPOINT": "http://mirror.example.org/",
            "HF_TOKEN": "hf",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "GROUPQWEN_MEMORY_LIMIT": "16GiB",
        }
    )
    assert found == Environment(
        home=Path("/srv/group"),
        models_dir=Path("/models"),
        adapters_dir=Path("/shared/adapters"),
        files_dir=Path("/shared/files"),
        runs="s3://bucket/runs",
        database_url="postgresql+psycopg://u:p@h/d",
        internal_token="t",
        hub_endpoint="http://mirror.example.org",
        hub_token="hf",
        haproxy=True,
        memory_limit=16 * 2**30,
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("2B", 2), ("2K", 2000), ("1.5GB", 1_500_000_000), ("1 GiB", 2**30), ("3mib", 3 * 2**20)],
)
def test_a_memory_limit_is_taken_with_or_without_a_unit(text: str, size: int) -> None:
    assert Environment.read({"GROUPQWEN_MEMORY_LIMIT": text}).memory_limit == size


@pytest.mark.parametrize("text", ["much", "-1", "0", "0.0001K", "1 GG", "1e9", "GB"])
def test_a_memory_limit_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="GROUPQWEN_MEMORY_LIMIT must be a size such as 16GiB"):
        Environment.read({"GROUPQWEN_MEMORY_LIMIT": text})


def test_a_variable_set_to_nothing_counts_as_unset() -> None:
    folders = ("GROUPQWEN_HOME", "GROUPQWEN_MODELS_DIR", "GROUPQWEN_ADAPTERS_DIR", "GROUPQWEN_FILES_DIR")
    names = (*folders, "GROUPQWEN_DATABASE_URL", "HF_ENDPOINT", "HF_TOKEN")
    assert Environment.read(dict.fromkeys(names, "")) == Environment.read({})


def test_the_models_and_the_database_follow_the_home() -> None:
    found = Environment.read({"GROUPQWEN_HOME": "/srv/group"})
    assert found.models_dir == Path("/srv/group/models")
    assert found.adapters_dir == Path("/srv/group/adapters")
    assert found.files_dir == Path("/srv/group/files")
    assert found.database_url == "sqlite:////srv/group/groupqwen.db"


def test_a_tilde_is_the_users_home() -> None:
    assert Environment.read({"GROUPQWEN_HOME": "~/group"}).home == Path.home() / "group"


@pytest.mark.parametrize("value", ["0", "true", "", "yes"])
def test_only_a_one_switches_haproxy_on_as_in_serve(value: str) -> None:
    assert not Environment.read({"RAY_SERVE_ENABLE_HA_PROXY": value}).haproxy


@pytest.mark.parametrize(
    ("name", "value"),
    [("GROUPQWEN_HOME", "group"), ("HF_ENDPOINT", "huggingface.co"), ("HF_ENDPOINT", "ftp://huggingface.co")],
)
def test_a_value_that_cannot_be_used_is_named_by_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Environment.read({name: value})


def test_no_secret_is_shown_when_it_is_printed() -> None:
    found = Environment.read(
        {
            "GROUPQWEN_DATABASE_URL": "postgresql+psycopg://u:hunter2@h/d",
            "GROUPQWEN_INTERNAL_TOKEN": "hunter2",
            "HF_TOKEN": "hunter2",
        }
    )
    assert "hunter2" not in repr(found) + str(found)


def test_the_processs_own_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPQWEN_HOME", "/srv/other")
    assert Environment.read().home == Path("/srv/other")


def test_the_flags_that_serve_needs_are_texts() -> None:
    assert SERVE_FLAGS["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert all(name.startswith("RAY_") and value.isdigit() for name, value in SERVE_FLAGS.items())
