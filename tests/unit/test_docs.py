"""The documentation against the code: its snippets are valid, its links lead somewhere, its tables are complete."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from serve.protocol.sampling import SamplingDefaults
from serve.settings.base import Settings
from serve.settings.config import check
from serve.settings.engines import E5Engine, LlamaCppEngine, VllmEngine
from serve.settings.environment import SERVE_FLAGS, Environment
from serve.settings.gateway import (
    Condition,
    FileLimits,
    FineTuning,
    GatewaySettings,
    GatewayUserConfig,
    Limits,
    Recipes,
    RoutingSettings,
    Rule,
    Timeouts,
    Wake,
)
from serve.settings.model import AdapterSource, CanarySettings, ModelSettings, ModelUserConfig
from serve.settings.pictures import PictureLimits
from serve.settings.task import TaskSettings
from serve.settings.translation import TranslationUserConfig
from serve.settings.upstream import (
    UpstreamBreaker,
    UpstreamCapabilities,
    UpstreamEngine,
    UpstreamRetries,
    UpstreamTimeouts,
)
from serve.settings.vision import VisionUserConfig
from serve.settings.weights import (
    FolderFile,
    FolderSettings,
    FolderSource,
    GgufSource,
    HubFolder,
    HubSource,
    PackageFile,
    Source,
    WeightsSettings,
    weights_of,
)
from tests.group import config, echo, gateway

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
CONFIGURATION = ROOT / "docs" / "configuration.md"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_MODULE = re.compile(r"python -m (serve[\w.]*)")
_PATH = re.compile(r"`((?:serve|scripts|configs|tests|docs)/[\w./-]*\w)`")

#: Heading of docs/configuration.md -> the settings whose keys and defaults its table gives.
TABLES: dict[str, type[BaseModel]] = {
    "Gateway: args": GatewaySettings,
    "Gateway: user_config": GatewayUserConfig,
    "routing": RoutingSettings,
    "routing.rules": Rule,
    "routing.rules.when": Condition,
    "limits": Limits,
    "timeouts": Timeouts,
    "wake": Wake,
    "files": FileLimits,
    "fine_tuning": FineTuning,
    "fine_tuning.recipes": Recipes,
    "Model: args": ModelSettings,
    "Model: user_config": ModelUserConfig,
    "adapters": AdapterSource,
    "canary": CanarySettings,
    "sampling": SamplingDefaults,
    "weights": WeightsSettings,
    "weights.sources": Source,
    "hub": HubSource,
    "weights of a folder": FolderSettings,
    "weights.files": FolderFile,
    "sources of a folder": FolderSource,
    "hub of a folder": HubFolder,
    "gguf": GgufSource,
    "packages": PackageFile,
    "engine of llamacpp": LlamaCppEngine,
    "engine of vllm": VllmEngine,
    "picture_limits": PictureLimits,
    "vision: user_config": VisionUserConfig,
    "engine of e5": E5Engine,
    "engine of upstream": UpstreamEngine,
    "upstream capabilities": UpstreamCapabilities,
    "upstream timeouts": UpstreamTimeouts,
    "upstream retries": UpstreamRetries,
    "upstream breaker": UpstreamBreaker,
    "Task: args": TaskSettings,
    "translation: user_config": TranslationUserConfig,
}


def name_of(page: Path) -> str:
    """A page's path in the project."""
    return str(page.relative_to(ROOT))


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Every fenced block of a language, with its page and line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in _BLOCK.finditer(text):
            if found[1] == language:
                line = text.count("\n", 0, found.start()) + 1
                yield f"{name_of(page)}:{line}", found[2]


def named(application: dict[str, Any]) -> list[str]:
    """The models that a gateway's routing names."""
    routing = application["deployments"][0].get("user_config", {}).get("routing", {})
    lists = [routing.get("default", []), *(rule["models"] for rule in routing.get("rules", []))]
    return sorted({model for models in lists for model in models})


def check_application(text: str) -> None:
    """One application: a model beside a gateway, or a gateway beside the models that it names."""
    application = yaml.safe_load(text)
    if application["import_path"] == "serve.app:gateway":
        others = [echo(name) for name in named(application)]
    else:
        others = [gateway()]
    check(config(application, *others, port=8000))


#: First line of a YAML block -> what holds it to the settings. Blocks with another first line are not ours.
CHECKS: dict[str, Callable[[str], object]] = {
    "# config": lambda text: check(yaml.safe_load(text)),
    "# application": check_application,
    "# weights": lambda text: weights_of(yaml.safe_load(text)),
    "# routing": lambda text: RoutingSettings.model_validate(yaml.safe_load(text)["routing"]),
}


@pytest.mark.parametrize(("where", "text"), list(blocks("yaml")))
def test_a_yaml_snippet_is_valid(where: str, text: str) -> None:
    held_to = CHECKS.get(text.partition("\n")[0].strip(), yaml.safe_load)
    held_to(text)


def test_snippets_of_both_kinds_are_found() -> None:
    first_lines = {text.partition("\n")[0] for _, text in blocks("yaml")}
    assert first_lines >= {"# config", "# application"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    dead = []
    for target in _LINK.findall(_BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


def test_the_index_names_every_page() -> None:
    index = set(_LINK.findall((ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    pages = {page.name for page in PAGES if page.parent.name == "docs" and page.name != "README.md"}
    assert pages <= index


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_and_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    modules = {name.rstrip(".") for name in _MODULE.findall(text)}
    assert [name for name in sorted(modules) if importlib.util.find_spec(name) is None] == []
    assert [name for name in sorted(set(_PATH.findall(text))) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(("heading", "kind"), TABLES.items(), ids=TABLES)
def test_the_table_has_every_key_with_its_default(heading: str, kind: type[BaseModel]) -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
    assert section is not None, f"docs/configuration.md has no heading {heading!r}"
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section[1], re.MULTILINE))
    assert rows == {name: shown(field) for name, field in kind.model_fields.items()}


def shown(field: FieldInfo) -> str:
    """A default as the tables write it."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None:
        return "none"
    if isinstance(default, Settings) or default == {}:
        return "`{}`"
    text = yaml.safe_dump(default, default_flow_style=True).removesuffix("...\n").strip()
    return f"`{text}`"


def test_every_environment_variable_that_is_read_is_documented() -> None:
    class Recorder(dict[str, str]):
        """An empty environment that remembers what was looked up in it."""

        asked: set[str] = set()

        def get(self, name: str, default: Any = None) -> Any:
            self.asked.add(name)
            return default

        def __getitem__(self, name: str) -> str:
            self.asked.add(name)
            return super().__getitem__(name)

    source: Mapping[str, str] = Recorder()
    Environment.read(source)
    assert "GROUPQWEN_HOME" in Recorder.asked
    text = CONFIGURATION.read_text(encoding="utf-8")
    assert [name for name in sorted(Recorder.asked | set(SERVE_FLAGS)) if f"`{name}`" not in text] == []
