"""A whole config file: what is right."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from serve.handlers.base import HANDLERS
from serve.settings import config as ours
from serve.settings.config import check, load
from serve.settings.engines import ENGINES, EchoEngine, LlamaCppEngine
from tests.unit.settings.group import AUTOSCALING, at, config

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_of_the_repository_is_right(path: Path) -> None:
    assert load(path).models


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_serve_takes_every_config_that_our_check_takes(path: Path) -> None:
    raw = yaml.safe_load(path.read_text())
    before = deepcopy(raw)
    check(raw)
    assert raw == before, "the check changes nothing"
    assert len(ServeDeploySchema.model_validate(raw).applications) == len(raw["applications"])


def test_local_yaml_is_the_group_that_the_readme_starts() -> None:
    group = load(CONFIGS[0].with_name("local.yaml"))
    assert group.file.http_options.host == "127.0.0.1"
    assert {model.id for model in group.models} == {"smollm2-135m", "qwen2.5-coder-0.5b", "multilingual-e5-small"}


def test_a_config_is_read_into_typed_parts() -> None:
    group = check(config())
    assert [model.id for model in group.models] == ["quick", "strong"]
    quick, strong = group.models
    assert quick.engine == EchoEngine()
    assert strong.engine == LlamaCppEngine(context=2048)
    assert group.gateway_behaviour.routing.default == ["quick"]
    assert (group.file.http_options.port, group.gateway.transport) == (8000, "auto")


def test_autoscaling_takes_the_place_of_a_number_of_replicas() -> None:
    raw = config()
    deployment = at(raw, "applications", 1, "deployments", 0)
    del deployment["num_replicas"]
    deployment["autoscaling_config"] = AUTOSCALING
    assert check(raw).file.applications[1].deployments[0].autoscaling_config


def test_a_whole_number_will_do_where_a_fraction_is_wanted() -> None:
    raw = config()
    at(raw, "applications", 1, "deployments", 0)["ray_actor_options"] = {"num_cpus": 1, "num_gpus": 0.5}
    at(raw, "applications", 0, "deployments", 0, "user_config")["timeouts"] = {"connect": 1}
    assert check(raw).gateway_behaviour.timeouts.connect == 1.0


def test_every_engine_has_a_handler_and_every_handler_an_engine() -> None:
    assert set(ENGINES) == set(HANDLERS)


@pytest.mark.parametrize(
    ("own", "rays", "left_out"),
    [
        (ours.ServeFile, ServeDeploySchema, set()),
        (ours.Application, ServeApplicationSchema, {"host", "port"}),  # Of a file with one application only.
        (ours.Deployment, DeploymentSchema, set()),
        (ours.HttpOptions, HTTPOptionsSchema, set()),
        (ours.ActorOptions, RayActorOptionsSchema, set()),
        (ours.Backpressure, BackpressureConfig, set()),
        # Deprecated in favour of the factors.
        (ours.Autoscaling, AutoscalingConfig, {f"{way}smoothing_factor" for way in ("", "upscale_", "downscale_")}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_keys_of_serves_config_are_those_of_this_version_of_ray(
    own: type[BaseModel], rays: Any, left_out: set[str]
) -> None:
    assert set(own.model_fields) | left_out == set(rays.model_fields)
    assert not set(own.model_fields) & left_out
