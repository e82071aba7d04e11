"""A whole config file: each fault gives one line that names the key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from serve.settings.config import check, load
from serve.settings.errors import SettingsError
from tests.unit.settings.group import AUTOSCALING, WEIGHTS, at, config, fault, faults, gateway, model

USER = ("applications", 0, "deployments", 0, "user_config")
MODEL = ("applications", 1, "deployments", 0)


def rule(**changes: Any) -> list[Any]:
    """The routing rules with one of these fields."""
    return [{"name": "code", "when": {"code": True}, "models": ["quick"]} | changes]


@pytest.mark.parametrize(
    ("path", "guess"),
    [
        (("aplications",), "applications"),
        (("http_options", "prot"), "port"),
        (("applications", 1, "import_paths"), "import_path"),
        ((*MODEL, "max_ongoing_request"), "max_ongoing_requests"),
        ((*MODEL, "backpressure_config", "retry_after"), "retry_after_s"),
        ((*MODEL, "ray_actor_options", "num_cpu"), "num_cpus"),
        (("applications", 0, "args", "transports"), "transport"),
        (("applications", 1, "args", "handlers"), "handler"),
        (("applications", 2, "args", "engine", "contxt"), "context"),
        (("applications", 2, "args", "weights", "sha265"), "sha256"),
        (("applications", 2, "args", "weights", "sources", 0, "packges"), "packages"),
        ((*USER, "rooting"), "routing"),
        ((*USER, "limits", "body_byte"), "body_bytes"),
        ((*USER, "timeouts", "first_bytes"), "first_byte"),
        ((*USER, "routing", "defaults"), "default"),
        ((*USER, "routing", "rules", 0, "model"), "models"),
        ((*USER, "routing", "rules", 0, "when", "tool"), "tools"),
        ((*MODEL, "user_config", "sampling", "temprature"), "temperature"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(path: tuple[int | str, ...], guess: str) -> None:
    def change(raw: Any) -> None:
        for step in path[:-1]:
            raw = raw.setdefault(step, {}) if isinstance(raw, dict) else raw[step]
        raw[path[-1]] = None

    (line,) = faults(change)
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]
    assert line.startswith(f"{where}: unknown key; did you mean '{guess}'? allowed: ")
    assert line == line.strip()


def test_an_unknown_key_of_autoscaling_is_named_with_the_nearest_known_one() -> None:
    line = only_autoscaling({**AUTOSCALING, "target_requests": 4})
    assert line.startswith("applications[1].deployments[0].autoscaling_config.target_requests: unknown key; did you")


def only_autoscaling(value: object) -> str:
    """The one fault of this autoscaling in place of a number of replicas."""

    def change(raw: Any) -> None:
        deployment = at(raw, *MODEL)
        del deployment["num_replicas"]
        deployment["autoscaling_config"] = value

    (line,) = faults(change)
    return line


@pytest.mark.parametrize("key", sorted(AUTOSCALING))
def test_every_number_of_autoscaling_must_be_stated(key: str) -> None:
    line = only_autoscaling({name: value for name, value in AUTOSCALING.items() if name != key})
    assert line == f"applications[1].deployments[0].autoscaling_config.{key}: this key is required"


@pytest.mark.parametrize(
    "numbers", [{"min_replicas": 3}, {"initial_replicas": 3}, {"min_replicas": 2, "max_replicas": 1}]
)
def test_numbers_of_replicas_that_contradict_each_other_are_refused(numbers: dict[str, int]) -> None:
    line = only_autoscaling(AUTOSCALING | numbers)
    assert line.startswith("applications[1].deployments[0].autoscaling_config: ")
    assert line.endswith("min_replicas <= initial_replicas <= max_replicas must hold")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("applications",), [], "applications: list should have at least 1 item"),
        (("applications",), None, "applications: input should be a valid list"),
        (("applications",), {"a": 1}, "applications: input should be a valid list"),
        (("http_options", "port"), "8000", "http_options.port: input should be a valid integer"),
        (("http_options", "port"), 70000, "http_options.port: input should be less than or equal to 65535"),
        (("http_options",), None, "http_options: input should be a valid dictionary"),
        (("proxy_location",), "Everywhere", "proxy_location: input should be 'Disabled', 'HeadOnly' or 'EveryNode'"),
        (
            (*MODEL, "num_replicas"),
            True,
            "applications[1].deployments[0].num_replicas: input should be a valid integer",
        ),
        ((*MODEL, "num_replicas"), 0, "applications[1].deployments[0].num_replicas: input should be greater"),
        ((*MODEL, "backpressure_config", "status_code"), 503, "backpressure_config.status_code: input should be 429"),
        (
            ("applications", 1, "args", "engine"),
            {"tokens": "5"},
            "applications[1].args.engine.tokens: input should be",
        ),
        (("applications", 1, "args", "engine"), 5, "applications[1].args.engine: input should be"),
        (("applications", 1, "args", "engine"), None, "applications[1].args.engine: input should be"),
        (
            ("applications", 2, "args", "engine"),
            {"context": 5},
            "applications[2].args.engine.context: input should be",
        ),
        (("applications", 1, "args", "id"), "a/b", "applications[1].args.id: string should match pattern"),
        (
            ("applications", 1, "args", "handler"),
            "ecko",
            "unknown handler 'ecko'; did you mean 'echo'? Known: e5, echo",
        ),
        (("applications", 1, "import_path"), "serve.app:models", "unknown builder 'serve.app:models'; did you mean"),
        (("applications", 1, "import_path"), "os:system", "applications[1].import_path: unknown builder 'os:system'"),
        (("applications", 1, "deployments"), [], "applications[1].deployments: list should have at least 1 item"),
        ((*MODEL, "name"), "Modell", "applications[1].deployments[0].name: must be 'Model' for serve.app:model"),
        (("applications", 1, "name"), "fast", "applications[1].name: must be the model's id, 'quick', not 'fast'"),
        (
            ("applications", 1, "route_prefix"),
            "/quick",
            "applications[1].route_prefix: must be '/m/quick', not '/quick'",
        ),
        (("applications", 0, "route_prefix"), "/api", "applications[0].route_prefix: the gateway's must be '/'"),
        ((*USER, "routing", "default"), ["quik"], "user_config.routing.default: unknown model 'quik'; did you mean"),
        (
            (*USER, "routing", "rules"),
            rule(models=["nope"]),
            "routing.rules[0].models: unknown model 'nope'. Known: q",
        ),
        ((*USER, "routing", "rules"), rule(models=[]), "routing.rules[0].models: list should have at least 1 item"),
        ((*USER, "routing", "rules"), rule(name="My Rule"), "routing.rules[0].name: string should match pattern"),
        (
            (*USER, "routing", "rules"),
            rule(when={"pattern": "("}),
            "when.pattern: not a regular expression: missing )",
        ),
        ((*USER, "routing", "rules"), rule(when={"pattern": "a{9999999999}"}), "pattern: not a regular expression"),
        (
            (*USER, "routing", "rules"),
            rule() + rule(),
            "routing.rules: each rule needs a name of its own; given twice",
        ),
        ((*USER, "limits"), {"body_bytes": 1}, "user_config.limits.body_bytes: input should be greater"),
        ((*USER, "timeouts"), {"connect": 0}, "user_config.timeouts.connect: input should be greater than 0"),
        (("applications", 2, "args", "weights"), None, "applications[2].args: handler 'llamacpp' needs weights"),
        (("applications", 2, "args", "weights"), WEIGHTS | {"sha256": "abc"}, "weights.sha256: string should match"),
        (("applications", 2, "args", "weights"), WEIGHTS | {"sources": []}, "weights.sources: list should have at"),
        (
            ("applications", 2, "args", "weights"),
            WEIGHTS | {"sources": [{}]},
            "sources[0]: a source is exactly one of",
        ),
        (
            ("applications", 2, "args", "weights"),
            WEIGHTS | {"sources": [{"path": "/a", "url": "https://a/b"}]},
            "weights.sources[0]: a source is exactly one of: hub, url, path, uri, packages",
        ),
    ],
)
def test_a_wrong_value_is_named_by_its_path(path: tuple[int | str, ...], value: object, words: str) -> None:
    assert words in fault(path, value)


def test_a_missing_key_is_said_to_be_required() -> None:
    assert faults(lambda raw: at(raw, "applications", 1).pop("args")) == [
        "applications[1].args.id: this key is required",
        "applications[1].args.handler: this key is required",
    ]


def test_an_unknown_handler_is_the_only_fault_told_of_its_model() -> None:
    def change(raw: Any) -> None:
        at(raw, "applications", 1, "args").update(handler="torch", engine={"layers": 5})

    assert len(faults(change)) == 1


@pytest.mark.parametrize("both", [True, False])
def test_either_a_number_of_replicas_or_autoscaling_is_stated_and_not_both(both: bool) -> None:
    def change(raw: Any) -> None:
        if both:
            at(raw, *MODEL)["autoscaling_config"] = AUTOSCALING
        else:
            del at(raw, *MODEL)["num_replicas"]

    assert faults(change) == [
        "applications[1].deployments[0]: state either num_replicas or autoscaling_config, and not both"
    ]


def test_two_models_of_one_id_are_refused() -> None:
    assert faults(lambda raw: raw["applications"].append(model("quick"))) == [
        "applications[3].args.id: 'quick' is already the id of applications[1]"
    ]


@pytest.mark.parametrize("count", [0, 2])
def test_there_is_exactly_one_gateway(count: int) -> None:
    def change(raw: Any) -> None:
        raw["applications"] = [gateway() for _ in range(count)] + raw["applications"][1:]

    assert faults(change) == [f"applications: exactly one must be built by serve.app:gateway, found {count}"]


def test_every_fault_of_every_application_is_told_at_once() -> None:
    def change(raw: Any) -> None:
        raw["applications"][0]["args"] = {"transport": "carrier-pigeon"}
        raw["applications"][1]["args"]["engine"] = {"tokens": 0, "slot": 1}
        raw["applications"][2]["args"]["weights"] = {"file": "a/b"}

    lines = faults(change)
    assert [line.partition(": ")[0] for line in lines] == [
        "applications[0].args.transport",
        "applications[1].args.engine.tokens",
        "applications[1].args.engine.slot",
        "applications[2].args.weights.file",
        "applications[2].args.weights.bytes",
        "applications[2].args.weights.sha256",
        "applications[2].args.weights.sources",
    ]


@pytest.mark.parametrize("raw", [None, [], "text", 5, True])
def test_a_file_that_holds_no_mapping_is_refused(raw: object) -> None:
    with pytest.raises(SettingsError, match="must be a mapping with the key 'applications'"):
        check(raw)


@pytest.mark.parametrize("key", [1, None, True, 1.5])
def test_a_key_that_is_no_text_is_refused(key: object) -> None:
    (line,) = faults(lambda raw: raw.__setitem__(cast(str, key), 1))
    assert "string" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must be a mapping"),
        (b"# nothing but words\n", "must be a mapping"),
        (b"{", "this is not valid YAML"),
        (b"a: b: c", "this is not valid YAML"),
        (b"\xff\xfe\x00", "this is not valid YAML"),
        (b"applications: !!python/object/apply:os.system [ls]", "this is not valid YAML"),
        (b"a: 1\n---\nb: 2\n", "this is not valid YAML"),
        (b"[" * 5000, "this is not valid YAML"),
        (b"applications: []\napplications: [1]\n", "line 2 states the key 'applications' a second time"),
        (b"a:\n  - {b: 1, b: 2}\n", "line 2 states the key 'b' a second time"),
        (b"created: 2026-13-45", "this is not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_config_gives_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "group.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as raised:
        load(path)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{path}: ") and words in line


def test_a_file_that_is_not_there_gives_one_line(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "no.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError, match=f"^{path}: {words}"):
            load(path)


def test_every_line_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "group.yaml"
    path.write_text("applications: 5\nhttp_options: 6\n")
    with pytest.raises(SettingsError) as raised:
        load(path)
    lines = str(raised.value).splitlines()
    assert len(lines) == 2 and all(line.startswith(f"{path}: ") for line in lines)


def test_a_secret_in_a_wrong_place_is_not_repeated() -> None:
    (line,) = faults(lambda raw: raw["http_options"].update(ssl_keyfile_password=["hunter2"]))
    assert "hunter2" not in line


def test_the_right_config_has_no_fault() -> None:
    check(config())


SLEEPS = {"min_replicas": 0, "initial_replicas": 0, "metrics_interval_s": 2}


def scaled(raw: dict[str, Any], application: int, **numbers: float) -> None:
    """Let an application's replicas follow its load."""
    deployment = at(raw, "applications", application, "deployments", 0)
    deployment.pop("num_replicas")
    deployment["autoscaling_config"] = AUTOSCALING | numbers


def test_a_model_may_have_no_replica() -> None:
    raw = config()
    scaled(raw, 1, **SLEEPS)
    assert check(raw).file.applications[1].deployments[0].autoscaling_config is not None


def test_the_gateway_must_not_sleep() -> None:
    [line] = faults(lambda raw: scaled(raw, 0, **SLEEPS))
    assert line.endswith("autoscaling_config.min_replicas: must be at least 1; only models may sleep")


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ({"downscale_delay_s": 3}, "downscale_delay_s: must be at least 4"),
        ({"downscale_to_zero_delay_s": 0}, "downscale_to_zero_delay_s: must be at least 4"),
        (
            {"downscale_to_zero_delay_s": 15, "metrics_interval_s": 10},
            "downscale_to_zero_delay_s: must be at least 20",
        ),
    ],
)
def test_a_model_must_not_fall_asleep_before_its_load_is_known(numbers: dict[str, float], line: str) -> None:
    [found] = faults(lambda raw: scaled(raw, 1, **SLEEPS | numbers))
    assert f"applications[1].deployments[0].autoscaling_config.{line}, twice metrics_interval_s" in found
