"""A whole Ray Serve config file, checked before anything starts.

The file is what ``serve deploy`` takes, key for key (https://docs.ray.io/en/latest/serve/production-guide/config.html);
this check is stricter: it knows the group's own ``args`` and ``user_config``, refuses an application that is not
one of ours to build, and wants every autoscaling number stated, since Serve's own defaults for them are surprising.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator

from serve.protocol.requests import AUTO, split_model
from serve.settings.base import Settings
from serve.settings.engines import VllmEngine
from serve.settings.errors import SettingsError, parsed
from serve.settings.gateway import GatewaySettings, GatewayUserConfig
from serve.settings.model import ModelSettings, ModelUserConfig
from serve.settings.suggest import one_of
from serve.settings.task import TaskSettings, task_kind
from serve.settings.yaml_file import load_yaml

GATEWAY = "serve.app:gateway"
MODEL = "serve.app:model"
TASK = "serve.app:task"

#: import path -> the deployment's name.
APPLICATIONS = {GATEWAY: "Gateway", MODEL: "Model", TASK: "Task"}

#: How often Serve hears of a replica's load where ``metrics_interval_s`` does not say it.
SERVE_METRICS_SECONDS = 10.0

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class Autoscaling(Settings):
    """Serve's autoscaling, with nothing left to a default that matters."""

    min_replicas: Count
    max_replicas: Annotated[int, Field(ge=1)]
    initial_replicas: Count
    target_ongoing_requests: Annotated[float, Field(gt=0)]
    upscale_delay_s: Seconds
    downscale_delay_s: Seconds
    downscale_to_zero_delay_s: Seconds | None = None
    metrics_interval_s: Annotated[float, Field(gt=0)] | None = None
    look_back_period_s: Annotated[float, Field(gt=0)] | None = None
    upscaling_factor: Annotated[float, Field(gt=0)] | None = None
    downscaling_factor: Annotated[float, Field(gt=0)] | None = None
    aggregation_function: Literal["mean", "max", "min"] | None = None
    policy: dict[str, Any] | None = None


class Backpressure(Settings):
    """Serve's answer when a queue is full."""

    status_code: Literal[429]
    retry_after_s: Seconds | None = None


class ActorOptions(Settings):
    """What one replica needs of its node."""

    num_cpus: Seconds | None = None
    num_gpus: Seconds | None = None
    memory: Seconds | None = None
    resources: dict[str, float] = {}
    accelerator_type: str | None = None
    label_selector: dict[str, str] | None = None
    fallback_strategy: list[dict[str, Any]] | None = None
    runtime_env: dict[str, Any] = {}


class Deployment(Settings):
    """One deployment of an application."""

    name: str
    num_replicas: Annotated[int, Field(ge=1)] | None = None
    autoscaling_config: Autoscaling | None = None
    max_ongoing_requests: Annotated[int, Field(ge=1)]
    max_queued_requests: Annotated[int, Field(ge=-1)]
    backpressure_config: Backpressure
    user_config: dict[str, Any] = {}
    ray_actor_options: ActorOptions = ActorOptions()
    graceful_shutdown_wait_loop_s: Seconds | None = None
    graceful_shutdown_timeout_s: Seconds | None = None
    health_check_period_s: Seconds | None = None
    health_check_timeout_s: Seconds | None = None
    placement_group_bundles: list[dict[str, float]] | None = None
    placement_group_strategy: str | None = None
    placement_group_bundle_label_selector: list[dict[str, str]] | None = None
    max_replicas_per_node: Annotated[int, Field(ge=1)] | None = None
    logging_config: dict[str, Any] | None = None
    request_router_config: dict[str, Any] | None = None
    gang_scheduling_config: dict[str, Any] | None = None
    deployment_actors: list[Any] | None = None
    rolling_update_percentage: Annotated[float, Field(gt=0)] | None = None
    max_surge_percent: Count | None = None


class Application(Settings):
    """One Serve application: the gateway, one model, or one task."""

    name: str
    route_prefix: str
    import_path: str
    args: dict[str, Any] = {}
    deployments: Annotated[list[Deployment], Field(min_length=1, max_length=1)]
    runtime_env: dict[str, Any] = {}
    logging_config: dict[str, Any] | None = None
    autoscaling_policy: dict[str, Any] | None = None
    external_scaler_enabled: bool = False


class HttpOptions(Settings):
    """Where Serve listens."""

    host: str = "0.0.0.0"  # noqa: S104 - Serve's own default; the group's configs state loopback
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    root_path: str = ""
    request_timeout_s: Annotated[float, Field(gt=0)] | None = None
    keep_alive_timeout_s: Annotated[int, Field(ge=1)] = 90
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: str | None = None

    @field_validator("host")
    @classmethod
    def _is_reachable_by_the_proxy(cls, host: str) -> str:
        # Serve's proxy and the gateway reach replicas on loopback, and these listen where the proxy does.
        if host not in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::"):  # noqa: S104
            raise ValueError("use 127.0.0.1 for this machine only, or 0.0.0.0 with API keys")
        return host


class ServeFile(Settings):
    """A Serve config file."""

    proxy_location: Literal["Disabled", "HeadOnly", "EveryNode"] = "EveryNode"
    http_options: HttpOptions = HttpOptions()
    grpc_options: dict[str, Any] | None = None
    controller_options: dict[str, Any] | None = None
    logging_config: dict[str, Any] | None = None
    tracing_config: dict[str, Any] | None = None
    target_capacity: Annotated[float, Field(ge=0, le=100)] | None = None
    applications: Annotated[list[Application], Field(min_length=1)]


@dataclass(frozen=True)
class GroupConfig:
    """A checked config: the file as it is, and what the group reads out of it."""

    file: ServeFile
    gateway: GatewaySettings
    gateway_behaviour: GatewayUserConfig
    models: list[ModelSettings]
    tasks: list[TaskSettings]


def load(path: str | Path) -> GroupConfig:
    """Read and check the config file at ``path``.

    Raises:
        SettingsError: the file is missing, is no YAML, or has faults; one line for each, naming the key.
    """
    file = Path(path)
    try:
        raw = load_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{file}: this is not valid YAML: {reason}") from error
    try:
        return check(raw)
    except SettingsError as error:
        lines = str(error).splitlines()
        raise SettingsError("\n".join(f"{file}: {line}" for line in lines)) from error


def check(raw: object) -> GroupConfig:
    """Check a config that is already read; raises as ``load`` does."""
    if not isinstance(raw, dict):
        raise SettingsError("the file must be a mapping with the key 'applications'")
    serve_file = parsed(ServeFile, raw, "")
    faults: list[str] = []
    members: list[tuple[Application, Settings, Settings]] = []
    for index, application in enumerate(serve_file.applications):
        try:
            members.append((application, *_application(application, f"applications[{index}]")))
        except SettingsError as error:
            faults += str(error).splitlines()
    if not faults:
        faults = _faults_of_the_whole(members)
    if faults:
        raise SettingsError("\n".join(faults))
    gateway, behaviour = next((args, user) for _, args, user in members if isinstance(args, GatewaySettings))
    assert isinstance(gateway, GatewaySettings) and isinstance(behaviour, GatewayUserConfig)
    models = [args for _, args, _ in members if isinstance(args, ModelSettings)]
    tasks = [args for _, args, _ in members if isinstance(args, TaskSettings)]
    return GroupConfig(serve_file, gateway, behaviour, models, tasks)


def _application(application: Application, where: str) -> tuple[Settings, Settings]:
    if application.import_path not in APPLICATIONS:
        raise SettingsError(f"{where}.import_path: {one_of('builder', application.import_path, APPLICATIONS)}")
    name = APPLICATIONS[application.import_path]
    args_class, user_class = _classes(application, f"{where}.args")
    deployment = application.deployments[0]
    if deployment.name != name:
        raise SettingsError(f"{where}.deployments[0].name: must be {name!r} for {application.import_path}")
    if (deployment.num_replicas is None) == (deployment.autoscaling_config is None):
        raise SettingsError(f"{where}.deployments[0]: state either num_replicas or autoscaling_config, and not both")
    scaling = deployment.autoscaling_config
    if scaling and not scaling.min_replicas <= scaling.initial_replicas <= scaling.max_replicas:
        raise SettingsError(
            f"{where}.deployments[0].autoscaling_config: min_replicas <= initial_replicas <= max_replicas must hold"
        )
    if scaling and not scaling.min_replicas:
        _check_sleep(application, scaling, f"{where}.deployments[0].autoscaling_config")
    args = parsed(args_class, application.args, f"{where}.args")
    if isinstance(args, ModelSettings) and isinstance(args.engine, VllmEngine):
        _check_devices(args.engine, deployment.ray_actor_options, f"{where}.deployments[0].ray_actor_options")
    return (
        args,
        parsed(user_class, deployment.user_config, f"{where}.deployments[0].user_config"),
    )


def _classes(application: Application, where: str) -> tuple[type[Settings], type[Settings]]:
    """The classes of the application's args, which stand at ``where``, and of its user_config."""
    if application.import_path == GATEWAY:
        return GatewaySettings, GatewayUserConfig
    if application.import_path == MODEL:
        return ModelSettings, ModelUserConfig
    kind = task_kind(application.args, where)
    return kind.args, kind.user_config


def _check_sleep(application: Application, scaling: Autoscaling, where: str) -> None:
    """Check an application that may have no replica.

    Raises:
        SettingsError: it is the gateway or a task, which nobody wakes; or it would fall asleep before Serve has heard
            of the request that woke it.
    """
    if application.import_path != MODEL:
        raise SettingsError(f"{where}.min_replicas: must be at least 1; only models may sleep")
    least = 2 * (scaling.metrics_interval_s or SERVE_METRICS_SECONDS)
    later = scaling.downscale_to_zero_delay_s
    name = "downscale_delay_s" if later is None else "downscale_to_zero_delay_s"
    if (scaling.downscale_delay_s if later is None else later) < least:
        raise SettingsError(
            f"{where}.{name}: must be at least {least:g}, twice metrics_interval_s, where min_replicas is 0"
        )


def _check_devices(engine: VllmEngine, options: ActorOptions, where: str) -> None:
    """See that Ray gives the replica what its engine runs on."""
    if engine.device == "cpu":
        return
    if engine.devices == 1 and not options.num_gpus:
        raise SettingsError(f"{where}.num_gpus: must be stated for a model on a GPU; 1 is a whole one")
    if engine.devices > 1 and options.num_gpus:
        raise SettingsError(
            f"{where}.num_gpus: must be 0; the {engine.devices} GPUs that tensor_parallel x pipeline_parallel take"
            " have bundles of their own"
        )
    if engine.devices > 1 and (options.num_cpus or 0) > 1:
        raise SettingsError(f"{where}.num_cpus: must be at most 1, which is what the first GPU's bundle has")


def _faults_of_the_whole(members: list[tuple[Application, Settings, Settings]]) -> list[str]:
    """Faults that no single application shows."""
    faults = []
    seen: dict[str, int] = {}
    gateways = [a.name for a, args, _ in members if isinstance(args, GatewaySettings)]
    if len(gateways) != 1:
        faults.append(f"applications: exactly one must be built by {GATEWAY}, found {len(gateways)}")
    for index, (application, args, _) in enumerate(members):
        where = f"applications[{index}]"
        if isinstance(args, GatewaySettings):
            if application.route_prefix != "/":
                faults.append(f"{where}.route_prefix: the gateway's must be '/'")
            continue
        assert isinstance(args, ModelSettings | TaskSettings)
        if args.id in seen:
            faults.append(f"{where}.args.id: {args.id!r} is already the id of applications[{seen[args.id]}]")
            continue
        seen[args.id] = index
        what, mount = ("task", "t") if isinstance(args, TaskSettings) else ("model", "m")
        if application.name != args.id:
            faults.append(f"{where}.name: must be the {what}'s id, {args.id!r}, not {application.name!r}")
        if application.route_prefix != f"/{mount}/{args.id}":
            faults.append(f"{where}.route_prefix: must be '/{mount}/{args.id}', not {application.route_prefix!r}")
    models = [args.id for _, args, _ in members if isinstance(args, ModelSettings)]
    for index, (_, args, user) in enumerate(members):
        place = f"applications[{index}].deployments[0].user_config"
        if isinstance(user, GatewayUserConfig):
            faults += _faults_of_routing(user, models, f"{place}.routing")
        if isinstance(args, TaskSettings):
            faults += _faults_of_task(args, user, models, members[:index], place)
    return faults


def _faults_of_task(
    args: TaskSettings,
    user: Settings,
    models: list[str],
    before: list[tuple[Application, Settings, Settings]],
    where: str,
) -> list[str]:
    """A task asks a model of the group, and a group has one application of each task."""
    faults = [
        f"{where}: {one.args['id']!r} is this group's {args.task} already"
        for one, other, _ in before
        if isinstance(other, TaskSettings) and other.task == args.task
    ]
    asked = split_model(getattr(user, "model", AUTO))[0]
    return faults if asked in (AUTO, *models) else [*faults, f"{where}.model: {one_of('model', asked, models)}"]


def _faults_of_routing(user: GatewayUserConfig, known: list[str], where: str) -> list[str]:
    named = [(f"{where}.rules[{i}].models", m) for i, rule in enumerate(user.routing.rules) for m in rule.models]
    named += [(f"{where}.default", model) for model in user.routing.default]
    return [f"{place}: {one_of('model', model, known)}" for place, model in named if model not in known]
