"""What a model on vLLM must say of the devices that Ray gives it, and what its builder makes of that."""

from __future__ import annotations

from typing import Any

import pytest

from serve.app import model as build
from serve.settings.config import check
from serve.settings.errors import SettingsError
from tests.unit.settings.group import FOLDER, WEIGHTS, Json, config, model


def with_model(engine: Json, options: Json) -> Json:
    """A config with a model on vLLM."""
    raw = config()
    one = model("large", handler="vllm", weights=FOLDER, engine=engine)
    one["deployments"][0]["ray_actor_options"] = options
    raw["applications"].append(one)
    return raw


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ({}, {"num_gpus": 1}),
        ({}, {"num_cpus": 4, "num_gpus": 0.5}),
        ({"tensor_parallel": 2}, {"num_cpus": 1}),
        ({"tensor_parallel": 2, "pipeline_parallel": 2}, {"num_gpus": 0}),
        ({"device": "cpu"}, {"num_cpus": 4}),
    ],
)
def test_right_devices_are_taken(engine: Json, options: Json) -> None:
    assert check(with_model(engine, options)).models[-1].id == "large"


@pytest.mark.parametrize(
    ("engine", "options", "key"),
    [
        ({}, {"num_cpus": 1}, "num_gpus"),
        ({"tensor_parallel": 2}, {"num_gpus": 2}, "num_gpus"),
        ({"pipeline_parallel": 2}, {"num_cpus": 2}, "num_cpus"),
    ],
)
def test_wrong_devices_are_named(engine: Json, options: Json, key: str) -> None:
    with pytest.raises(SettingsError, match=rf"applications\[3\].deployments\[0\].ray_actor_options.{key}: must be"):
        check(with_model(engine, options))


def test_a_file_is_no_folder() -> None:
    raw = with_model({"device": "cpu"}, {})
    raw["applications"][3]["args"]["weights"] = WEIGHTS
    with pytest.raises(SettingsError, match="handler 'vllm' loads a folder"):
        check(raw)


@pytest.mark.parametrize(
    ("engine", "bundles"),
    [
        ({"tensor_parallel": 2}, [{"CPU": 1.0, "GPU": 1.0}, {"GPU": 1.0}]),
        ({}, None),
        ({"device": "cpu"}, None),
    ],
)
def test_several_gpus_are_set_aside_in_bundles(engine: Json, bundles: Any) -> None:
    application = build({"id": "large", "handler": "vllm", "weights": FOLDER, "engine": engine})
    options = application._bound_deployment._replica_config
    assert options.placement_group_bundles == bundles
    assert options.placement_group_strategy == ("PACK" if bundles else None)
