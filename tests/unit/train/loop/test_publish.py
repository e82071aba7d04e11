"""The loop publishes under a name that nobody else has, and goes on when the group has just this content."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from serve.adapters.errors import NameTaken
from serve.adapters.manifest import Base
from serve.adapters.promotions import Probation, Promotions
from serve.adapters.registry import Registry
from tests.peft import save, tensors
from tests.unit.train.test_adapters import REPORT, finished
from train.loop import steps
from train.loop.settings import CanaryStep, LoopSettings
from train.loop.state import Round
from train.loop.steps import LoopFailed, Work, decide, publish_adapter


class Listing(BaseHTTPRequestHandler):
    """A group that lists one adapter, with the next of some versions each time it is asked; the last one stays."""

    versions: list[str]

    def do_GET(self) -> None:
        version = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"state": "ready", "version": version}).encode())

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def group() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Listing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def work(tmp_path: Path, group: str, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A round whose training is finished."""
    monkeypatch.setenv("GROUPQWEN_ADAPTERS_DIR", str(tmp_path / "registry"))
    monkeypatch.setattr(steps, "_POLL_SECONDS", 0.01)
    settings = LoopSettings.model_validate(
        {
            "model": "m",
            "folder": str(tmp_path),
            "curate": "c",
            "recipe": "r",
            "evaluation": "e",
            "collect": {"tenant": "local"},
            "serving": {"url": group, "wait": 0.5},
        }
    )
    found = Work(settings, Round(number=1, mark="0" * 8, begun=datetime.now(UTC)), None, lambda line: None)
    finished(tmp_path / "runs" / found.round.name, report=None)
    return found


def published(work: Work, seed: int) -> str:
    """Publish a content of somebody else's under the round's name; gives its version."""
    source = save(work.folder, tensors({"model.layers.0.self_attn.q_proj": (8, 8)}, seed=seed))
    return Registry().publish(Base(model="m"), work.round.name, source).version


def test_it_is_waited_for_the_content_and_not_for_the_name(work: Work) -> None:
    own = published(work, 0)
    Listing.versions = ["0" * 16, "0" * 16, own]
    assert publish_adapter(work) == {"model": f"m:{work.round.name}", "version": own}
    assert Listing.versions == [own]
    Listing.versions = ["0" * 16]
    with pytest.raises(LoopFailed, match="is not ready"):
        publish_adapter(work)


def test_a_name_that_another_content_has_is_left_alone(work: Work) -> None:
    others = published(work, 1)
    with pytest.raises(NameTaken):
        publish_adapter(work)
    assert Registry().manifest("m", work.round.name).version == others


@pytest.mark.parametrize("probation", [None, Probation(hours=5, min_ratings=0)])
def test_one_that_passed_becomes_the_canary_on_the_probation_that_is_stated(
    work: Work, probation: Probation | None
) -> None:
    finished(Path(work.run.address), report=REPORT)
    settings = work.settings.model_copy(update={"canary": CanaryStep(weight=0.2, probation=probation)})
    decided = replace(work, settings=settings, round=work.round.with_step("evaluate", {"passed": True}))
    assert decide(decided) == {"canary": 0.2}
    [made] = Promotions(Registry()).history("m")
    assert made.by == "loop" and made.standing.canary is not None
    assert (made.standing.canary.weight, made.standing.canary.probation) == (0.2, probation)
