"""The settings of a model on another server."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from serve.handlers.base import Capabilities
from serve.protocol.sampling import Sampling
from serve.settings.upstream import OPENAI_PARAMETERS, UpstreamCapabilities, UpstreamEngine
from tests.unit.settings.group import config, faults, model

RIGHT = {"base_url": "https://api.example.org/v1", "model": "theirs"}


def engine(**more: Any) -> UpstreamEngine:
    """Right settings with something else in them."""
    return UpstreamEngine.model_validate({**RIGHT, **more})


def test_a_slash_at_the_end_of_the_address_makes_no_difference() -> None:
    assert engine(base_url="https://api.example.org/v1/") == engine()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "api.example.org",
        "ftp://example.org",
        "https://",
        "https://example.org:x",
        "https://exam ple.org",
        "https:///v1",
    ],
)
def test_an_address_must_be_one_of_http(address: str) -> None:
    for name in ("base_url", "proxy"):
        with pytest.raises(ValidationError, match="http or https address"):
            engine(**{name: address})


@pytest.mark.parametrize(
    "address", ["https://me:hunter2@example.org", "https://hunter2@example.org", "https://example.org?key=hunter2"]
)
def test_an_address_must_not_hold_a_secret_and_the_fault_does_not_show_it(address: str) -> None:
    with pytest.raises(ValidationError) as raised:
        engine(base_url=address)
    assert "hunter2" not in str(raised.value)


def test_a_key_is_named_in_one_way_at_most() -> None:
    assert engine().key_env is None
    with pytest.raises(ValidationError, match="not by both"):
        engine(key_env="A", key_file="/a")


@pytest.mark.parametrize("more", [{"key_env": "sk-hunter2"}, {"key_env": ""}, {"key_file": "relative"}])
def test_a_key_itself_cannot_stand_in_the_config(more: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as raised:
        engine(**more)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["Authorization", "api-key", "X-API-Key", "Cookie", "Host", "Content-Length", "a b", ""]
)
def test_headers_that_hold_keys_or_are_the_programs_own_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        engine(headers={name: "x"})


@pytest.mark.parametrize("value", ["a\r\nB: c", "é", "a\tb"])
def test_a_header_cannot_bring_others_with_it(value: str) -> None:
    with pytest.raises(ValidationError):
        engine(headers={"X-Title": value})


@pytest.mark.parametrize("name", ["model", "messages", "stream", "temperature", "input", "prompt", "store"])
def test_fields_of_requests_cannot_be_set_by_the_config(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} comes from the request"):
        engine(body={name: 1})


def test_a_ca_file_needs_the_check_that_it_is_for() -> None:
    with pytest.raises(ValidationError, match="tls_verify"):
        engine(ca_file="/ca.pem", tls_verify=False)


def test_parameters_are_names_of_sampling() -> None:
    assert set(OPENAI_PARAMETERS) <= {field.name for field in fields(Sampling)}
    with pytest.raises(ValidationError):
        engine(parameters=["top_q"])


def test_capabilities_are_those_of_every_handler() -> None:
    # How a model sees pictures is stated to the vision task.
    assert set(UpstreamCapabilities.model_fields) == {field.name for field in fields(Capabilities)} - {"pictures"}


def test_a_config_without_the_servers_address_is_told_what_is_missing() -> None:
    raw = config()
    raw["applications"].append(model("far", handler="upstream", engine={"model": "theirs"}))
    assert faults(lambda right: right.update(raw)) == ["applications[3].args.engine.base_url: this key is required"]
