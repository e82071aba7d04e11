"""Settings of weights: a file or a folder, and the places that either may come from."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.settings.errors import fault_lines
from serve.settings.model import ModelSettings
from serve.settings.weights import FolderSettings, FolderSource, Source, WeightsSettings, inner_path
from tests.unit.settings.group import WEIGHTS

HUB = {"hub": {"repo": "owner/name", "revision": "0" * 40}}
FILE = {"file": "config.json", "bytes": 0, "sha256": "0" * 64}
FOLDER: dict[str, Any] = {"folder": "checkpoint", "files": [FILE], "sources": [{"path": "/models/tiny"}]}


def model(weights: object, handler: str = "llamacpp") -> ModelSettings:
    """A model with these weights."""
    return ModelSettings.model_validate({"id": "m", "handler": handler, "weights": weights})


def faults(weights: object, handler: str = "llamacpp") -> list[str]:
    """What is wrong with a model that has these weights."""
    with pytest.raises(ValidationError) as raised:
        model(weights, handler)
    return fault_lines(raised.value, ModelSettings, "args")


def folder(**changes: Any) -> dict[str, Any]:
    """A right folder with these changes; a change to none takes the key away."""
    return {key: value for key, value in (deepcopy(FOLDER) | changes).items() if value is not None}


def test_the_keys_say_whether_it_is_a_file_or_a_folder() -> None:
    assert isinstance(model(WEIGHTS).weights, WeightsSettings)
    assert isinstance(model(folder(entry="config.json")).weights, FolderSettings)


@pytest.mark.parametrize("weights", [5, "model.gguf", [], True])
def test_weights_that_are_no_mapping_are_refused_in_one_line(weights: object) -> None:
    assert faults(weights) == ["args.weights: it must be a mapping with the key 'file' or 'folder'"]


def test_a_fault_in_a_folder_is_told_with_its_whole_path() -> None:
    weights = folder(files=[FILE | {"sha256": "x"}], sources=[{"hub": {"repo": "owner/name", "revison": "x"}}])
    assert faults(weights) == [
        "args.weights.files[0].sha256: string should match pattern '^[0-9a-f]{64}$'",
        "args.weights.sources[0].hub.revision: this key is required",
        "args.weights.sources[0].hub.revison: unknown key; did you mean 'revision'?"
        " allowed: exclude, include, repo, revision",
    ]


def test_a_handler_that_loads_a_file_needs_the_entry_of_a_folder() -> None:
    assert faults(folder()) == ["args: handler 'llamacpp' loads a file; weights.entry must name it"]
    assert model(folder(), handler="echo").weights is not None


@pytest.mark.parametrize(
    "name",
    ["..", "../a", "/a", "a/../b", "a//b", "a/", "./a", "", "a\\b", "a\0b", "a\nb", "C:\\a", "x" * 1001, "ü" * 501],
)
def test_a_file_that_leads_out_of_its_folder_is_refused(name: str) -> None:
    (line,) = faults(folder(files=[FILE | {"file": name}]), handler="echo")
    assert line.startswith("args.weights.files[0].file: ") and line.endswith("is not a plain path inside a folder")


@pytest.mark.parametrize("name", ["a", ".gitattributes", "a b/ü.txt", "...", "a..b", "x" * 1000])
def test_any_other_file_is_taken(name: str) -> None:
    assert inner_path(name) == name


@given(st.text(max_size=30))
def test_no_path_that_is_taken_leads_out_of_a_folder(path: str) -> None:
    try:
        steps = inner_path(path).split("/")
    except ValueError:
        return
    assert not {"", ".", ".."} & set(steps) and not {"\0", "\\"} & set(path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a", "a"], "'a' comes twice"),
        (["a/b", "a"], "'a' cannot be both a file and the folder of 'a/b'"),
    ],
)
def test_files_that_contradict_each_other_are_refused(files: list[str], words: str) -> None:
    (line,) = faults(folder(files=[FILE | {"file": name} for name in files]), handler="echo")
    assert line == f"args.weights: {words}"


@pytest.mark.parametrize(
    "source",
    [
        {"url": "https://example.org/tiny"},
        {"path": "/tiny"},
        {"uri": "s3://bucket/tiny"},
        {"packages": {"config.json": [{"package": "a==1", "file": "a"}]}},
    ],
    ids=lambda source: next(iter(source)),
)
def test_files_may_be_left_out_only_where_every_source_knows_its_own(source: dict[str, Any]) -> None:
    model(folder(sources=[source]), handler="echo")
    (line,) = faults(folder(files=None, sources=[HUB, source]), handler="echo")
    assert line.startswith("args.weights: files is required with a ")
    model(folder(files=None, sources=[HUB, {"gguf": WEIGHTS}]), handler="echo")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"entry": "model.gguf"}, "entry 'model.gguf' is not one of files"),
        ({"entry": "../a"}, "is not a plain path inside a folder"),
        ({"folder": "a/b"}, "string should match pattern"),
        ({"files": []}, "list should have at least 1 item"),
        ({"sources": []}, "list should have at least 1 item"),
        ({"sources": [{}]}, "a source is exactly one of: hub, url, path, uri, packages, gguf"),
        ({"sources": [{"hub": HUB["hub"] | {"include": ["*"]}}]}, "leave out include and exclude"),
        ({"sources": [{"hub": HUB["hub"] | {"revision": "main"}}]}, "string should match pattern"),
        ({"sources": [{"hub": HUB["hub"] | {"file": "a"}}]}, "unknown key"),
        ({"sources": [{"packages": {"a": [{"package": "a==1", "file": "a"}]}}]}, "see a, config.json"),
        ({"sources": [{"gguf": WEIGHTS | {"file": "checkpoint"}}]}, "another file name than the folder's"),
        ({"sources": [{"gguf": WEIGHTS}], "entry": "config.json"}, "and no entry"),
        ({"sources": [{"gguf": WEIGHTS | {"dtype": "int8"}}]}, "dtype: input should be 'float32'"),
    ],
)
def test_a_folder_that_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    (line,) = faults(folder(**changes), handler="echo")
    assert words in line


@pytest.mark.parametrize(
    "uri", ["s3://bucket/a b.gguf", "gs://b/k", "az://c/k", "file:///a", "memory://a", "sftp://h/a"]
)
def test_addresses_of_other_file_systems_are_taken(uri: str) -> None:
    assert Source.model_validate({"uri": uri}).uri == uri


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("https://example.org/a", "an http or https address is a url source"),
        ("ftp://me:secret@host/a", "it must hold no name and no password"),
        ("zip://a::s3://b/c", "chained addresses"),
        ("simplecache::s3://b/c", "string should match pattern"),
        ("/a", "string should match pattern"),
        ("s3://", "string should match pattern"),
    ],
)
def test_other_addresses_are_refused(uri: str, words: str) -> None:
    for kind in (Source, FolderSource):
        with pytest.raises(ValidationError) as raised:
            kind.model_validate({"uri": uri})
        assert words in fault_lines(raised.value, kind)[0]
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "options", [{"endpoint_url": "http://minio:9000"}, {"client_kwargs": {"region_name": "x"}}, {"anon": True}]
)
def test_options_of_a_storage_library_are_taken(options: dict[str, Any]) -> None:
    assert Source.model_validate({"uri": "s3://b/k", "storage_options": options}).storage_options == options


@pytest.mark.parametrize(
    "options",
    [
        {"key": "x"},
        {"secret": "x"},
        {"token": "x"},
        {"account_key": "x"},
        {"sas_token": "x"},
        {"password": "x"},
        {"connection_string": "x"},
        {"client_kwargs": {"aws_secret_access_key": "x"}},
        {"client_kwargs": {"AWS_SESSION_TOKEN": "x"}},
    ],
    ids=str,
)
def test_secrets_among_the_options_are_refused_by_name_and_never_shown(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        Source.model_validate({"uri": "s3://b/k", "storage_options": options})
    (line,) = fault_lines(raised.value, Source)
    assert "storage_options must hold no secret, and '" in line
    assert "'x'" not in str(raised.value)


def test_options_without_a_uri_are_refused() -> None:
    with pytest.raises(ValidationError, match="storage_options belong to a uri"):
        Source.model_validate({"path": "/a", "storage_options": {}})
