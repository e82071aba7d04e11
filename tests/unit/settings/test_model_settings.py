"""The settings of one model."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from serve.settings.engines import ENGINES, LOADS_A_FOLDER, EchoEngine, LlamaCppEngine
from serve.settings.errors import fault_lines, path_of
from serve.settings.model import ModelSettings, ModelUserConfig
from serve.settings.suggest import nearest, one_of
from serve.settings.weights import Source
from tests.unit.settings.group import FOLDER, WEIGHTS


def settings(**fields: Any) -> ModelSettings:
    """A model on the handler without one."""
    return ModelSettings.model_validate({"id": "m", "handler": "echo"} | fields)


def test_the_engine_is_of_its_handlers_class() -> None:
    assert settings(engine={"tokens": 5}).engine == EchoEngine(tokens=5)
    assert settings(handler="llamacpp", weights=WEIGHTS, engine={"slots": 8}).engine == LlamaCppEngine(slots=8)


@pytest.mark.parametrize("handler", sorted(ENGINES.keys() - {"upstream"}))  # It needs an address.
def test_an_engine_that_is_not_stated_has_its_defaults(handler: str) -> None:
    weights = FOLDER if handler in LOADS_A_FOLDER else WEIGHTS
    assert settings(handler=handler, weights=weights).engine == ENGINES[handler]()


def test_an_engine_that_is_an_object_already_is_kept() -> None:
    engine = EchoEngine(tokens=7)
    assert settings(engine=engine).engine is engine


def test_an_engine_of_another_handlers_class_is_refused() -> None:
    with pytest.raises(ValidationError, match="engine"):
        settings(engine=LlamaCppEngine())


def test_a_projector_is_one_of_the_weights_files() -> None:
    files = [{"file": name, "bytes": 1, "sha256": "0" * 64} for name in ("m.gguf", "mmproj.gguf")]
    weights = {"folder": "f", "entry": "m.gguf", "files": files, "sources": [{"path": "/f"}]}
    seeing = settings(handler="llamacpp", weights=weights, engine={"projector": "mmproj.gguf"})
    assert isinstance(seeing.engine, LlamaCppEngine) and seeing.engine.projector == "mmproj.gguf"
    for wrong in (weights, WEIGHTS):
        with pytest.raises(ValidationError, match=r"must be one of weights\.files"):
            settings(handler="llamacpp", weights=wrong, engine={"projector": "other.gguf"})


def test_settings_travel_to_another_process_as_they_are() -> None:
    found = settings(engine={"tokens": 5})
    assert pickle.loads(pickle.dumps(found)) == found


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings().id = "other"  # type: ignore[misc]


def test_the_order_of_the_keys_does_not_matter() -> None:
    raw = {"engine": {"tokens": 5}, "handler": "echo", "id": "m"}
    assert ModelSettings.model_validate(raw) == settings(engine={"tokens": 5})


def test_a_fault_of_the_engine_carries_its_whole_path() -> None:
    with pytest.raises(ValidationError) as raised:
        settings(engine={"token": 5, "slots": 0})
    assert fault_lines(raised.value, ModelSettings, "args") == [
        "args.engine.slots: input should be greater than or equal to 1",
        "args.engine.token: unknown key; did you mean 'tokens'? allowed: slots, token_ms, tokens",
    ]


@pytest.mark.parametrize("id", ["qwen2.5-coder-0.5b", "A", "0", "a" * 96])
def test_an_id_may_hold_letters_digits_dots_dashes_and_underscores(id: str) -> None:
    assert settings(id=id).id == id


@pytest.mark.parametrize("id", ["", "a b", "a/b", ".a", "-a", "ü", "a" * 97, "a\n", 5])
def test_any_other_id_is_refused(id: object) -> None:
    with pytest.raises(ValidationError, match="id"):
        settings(id=id)


@pytest.mark.parametrize(
    "source",
    [
        {"path": "/models/a.gguf"},
        {"url": "https://example.org/a.gguf"},
        {"hub": {"repo": "owner/name", "revision": "0" * 40, "file": "a.gguf"}},
        {"packages": [{"package": "name==1.0", "file": "a.bin"}]},
    ],
)
def test_each_kind_of_source_is_taken(source: dict[str, Any]) -> None:
    Source.model_validate(source)


@pytest.mark.parametrize(
    "source",
    [
        {"path": ""},
        {"url": "file:///etc/passwd"},
        {"hub": {"repo": "owner/name", "revision": "main", "file": "a.gguf"}},
        {"hub": {"repo": "name", "revision": "0" * 40, "file": "a.gguf"}},
        {"packages": []},
        {"packages": [{"package": "name>=1.0", "file": "a.bin"}]},
        {},
    ],
)
def test_a_source_that_is_not_pinned_or_no_place_is_refused(source: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Source.model_validate(source)


def test_a_path_reads_as_it_would_in_python() -> None:
    assert path_of(("applications", 0, "args", "engine")) == "applications[0].args.engine"
    assert path_of((0, "a")) == "[0].a"
    assert path_of(()) == ""


def test_the_nearest_word_is_found_only_where_one_is_near() -> None:
    assert nearest("tempratur", ["temperature", "top_p"]) == "temperature"
    assert nearest("xyzzy", ["temperature", "top_p"]) is None
    assert one_of("handler", "xyzzy", ["echo", "e5"]) == "unknown handler 'xyzzy'. Known: e5, echo"


def test_adapters_are_names_with_paths_and_the_registry_is_followed() -> None:
    found = ModelUserConfig.model_validate({"adapters": [{"name": "a.b-1", "path": "/srv/a"}]})
    assert [(one.name, one.path) for one in found.adapters] == [("a.b-1", "/srv/a")]
    assert found.adapter_registry


@pytest.mark.parametrize(
    ("adapters", "reason"),
    [
        ([{"name": "a:b", "path": "/a"}], "name"),
        ([{"name": "../a", "path": "/a"}], "name"),
        ([{"name": "", "path": "/a"}], "name"),
        ([{"name": "a" * 65, "path": "/a"}], "name"),
        ([{"name": "a", "path": "relative"}], "path"),
        ([{"name": "a", "path": ""}], "path"),
        ([{"name": "a"}], "path"),
        ([{"name": "a", "path": "/a", "rank": 4}], "rank"),
        ([{"name": "a", "path": "/a"}, {"name": "a", "path": "/b"}], "given twice: a"),
    ],
)
def test_adapters_that_cannot_be_asked_for_or_found_are_refused(adapters: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ModelUserConfig.model_validate({"adapters": adapters})
