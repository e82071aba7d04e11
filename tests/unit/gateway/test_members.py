"""Which models Serve runs, in what state, and what each can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from starlette.types import Receive, Scope, Send

from serve.cluster import ModelApplication
from serve.errors import ModelNotFound, ModelStarting, QueueFull, Unavailable
from serve.gateway import members as module
from serve.gateway.members import Members
from serve.gateway.transport.base import MODELS, Answer, RawHeaders, ReplicaLost
from serve.protocol.http import send_json
from serve.residency.ledger import Report, State
from tests.unit.gateway.group import Group, InProcess, asleep, group, running, settled
from tests.unit.replica.models import Scripted, echo, replica


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Group]:
    """A gateway with a model that only chats and one that can do more."""
    able = Scripted(id="able", tools=True, structured_output=True, context=4096)
    async with group(tmp_path, echo("tiny"), able) as found:
        yield found


class Failing(InProcess):
    """Fails, or hangs, when a model is asked what it is."""

    def __init__(self, failures: dict[str, Exception | None]) -> None:
        super().__init__({"well": replica(echo("well")).asgi})
        self.infos = failures

    async def ask(
        self, model: str, method: str, path: str, headers: RawHeaders, body: bytes, mount: str = MODELS
    ) -> Answer:
        if model in self.infos:
            if failure := self.infos[model]:
                raise failure
            await asyncio.Event().wait()
        return await super().ask(model, method, path, headers, body)


async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
    """A model that does not take the gateway's token."""
    await send_json(send, {}, status=403)


async def no_ledgers(nodes: Iterable[str]) -> list[Report]:
    """Nodes without a ledger."""
    return []


async def found_by(transport: InProcess, *ids: str) -> Members:
    """Members that have looked once."""

    async def find() -> dict[str, ModelApplication]:
        return {id: running(id) for id in ids}

    members = Members(transport, [(b"x-groupqwen-internal", b"internal-secret")], 60.0, find, no_ledgers)
    await members.start()
    return members


async def test_members_say_of_themselves_what_they_can_do(two: Group) -> None:
    able, tiny = two.members.all()
    assert (able.id, tiny.id) == ("able", "tiny")
    assert able.can("chat") and able.can("embeddings") and able.can("tools")
    assert tiny.can("chat") and not tiny.can("embeddings") and not tiny.can("telepathy")


async def test_candidates_are_those_that_can_answer_now(two: Group) -> None:
    assert [(one.id, one.tools, one.context) for one in two.members.candidates("chat")] == [
        ("able", True, 4096),
        ("tiny", False, None),
    ]
    assert [one.id for one in two.members.candidates("embeddings")] == ["able"]
    await two.refresh(able=running("able", replicas=0))
    assert [one.id for one in two.members.candidates("chat")] == ["tiny"]


@pytest.mark.parametrize(
    ("status", "replicas", "state", "ready"),
    [
        ("RUNNING", 1, "ready", True),
        ("DEPLOYING", 1, "ready", True),
        ("UNHEALTHY", 1, "ready", True),
        ("DEPLOY_FAILED", 1, "ready", True),
        ("DEPLOYING", 0, "starting", False),
        ("NOT_STARTED", 0, "starting", False),
        ("UNHEALTHY", 0, "unhealthy", False),
        ("DEPLOY_FAILED", 0, "failed", False),
        ("DELETING", 1, "deleting", False),
        ("A_NEW_WORD_OF_SERVE", 0, "starting", False),
    ],
)
async def test_a_member_is_in_the_state_that_its_callers_would_see(
    two: Group, status: str, replicas: int, state: str, ready: bool
) -> None:
    await two.refresh(tiny=running("tiny", status=status, replicas=replicas))
    _, tiny = two.members.all()
    assert (tiny.state, tiny.ready) == (state, ready)


async def test_a_member_keeps_its_replicas_while_serve_does_not_say_how_many_there_are(two: Group) -> None:
    await two.refresh(tiny=running("tiny", status="DEPLOYING", replicas=None))
    assert two.members.get("tiny").ready
    assert two.members.get("tiny").replicas == 1


async def test_a_new_member_of_which_serve_says_nothing_is_starting(two: Group) -> None:
    await two.refresh(new=running("new", status="DEPLOYING", replicas=None))
    assert (two.members.get("new").state, two.members.get("new").replicas) == ("starting", 0)


async def test_a_member_is_asked_again_when_it_was_deployed_anew(two: Group) -> None:
    two.transport.apps["tiny"] = replica(Scripted(id="tiny", vision=True)).asgi
    await two.refresh(tiny=running("tiny", replicas=2))
    assert not two.members.get("tiny").can("vision")
    await two.refresh(tiny=running("tiny", replicas=2, deployed_at=2.0))
    assert two.members.get("tiny").can("vision")


async def test_a_member_that_cannot_say_anew_what_it_is_is_still_known_as_what_it_was(two: Group) -> None:
    two.transport.apps["tiny"] = refusing
    await two.refresh(tiny=running("tiny", status="DEPLOYING", deployed_at=2.0))
    assert two.members.get("tiny").ready


async def test_a_member_that_does_not_exist_is_told_with_those_that_do(two: Group) -> None:
    with pytest.raises(ModelNotFound, match="able, tiny"):
        two.members.get("none")


async def test_a_member_that_is_ready_is_not_waited_for(two: Group) -> None:
    assert (await two.members.wait_ready("tiny", 0)).id == "tiny"


@pytest.mark.parametrize(
    ("status", "error"), [("DEPLOYING", ModelStarting), ("DEPLOY_FAILED", Unavailable), ("DELETING", ModelNotFound)]
)
async def test_a_member_that_never_answered_is_not_waited_for(
    two: Group, status: str, error: type[Exception]
) -> None:
    await two.refresh(new=running("new", status=status, replicas=0))
    with pytest.raises(error):
        await two.members.wait_ready("new", 60)


async def test_a_member_that_was_lost_is_waited_for_as_long_as_was_said(two: Group) -> None:
    await two.refresh(tiny=running("tiny", status="UNHEALTHY", replicas=0))
    with pytest.raises(ModelStarting):
        await two.members.wait_ready("tiny", 0.01)


async def test_a_member_that_leaves_while_it_is_waited_for_is_gone(two: Group) -> None:
    await two.refresh(tiny=running("tiny", status="UNHEALTHY", replicas=0))
    waiting = asyncio.create_task(two.members.wait_ready("tiny", 60))
    await asyncio.sleep(0)
    await two.refresh(tiny=None)
    with pytest.raises(ModelNotFound):
        await waiting


@pytest.mark.parametrize("failure", [QueueFull("bad"), ReplicaLost("killed", begun=False), None])
async def test_a_model_that_cannot_say_what_it_is_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    monkeypatch.setattr(module, "_INFO_SECONDS", 0.05)
    members = await found_by(Failing({"bad": failure}), "bad", "well")
    assert members.get("well").ready
    assert not members.get("bad").ready
    with pytest.raises(ModelStarting):
        await members.wait_ready("bad", 60)
    await members.close()


async def test_a_model_that_refuses_the_gateway_is_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    members = await found_by(InProcess({"other": refusing}), "other")
    assert not members.get("other").ready
    assert "does not answer the gateway" in caplog.text
    await members.close()


async def test_the_list_is_kept_fresh_even_after_serve_could_not_be_asked(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Any] = [{}, OSError("the controller restarts"), {"well": running("well")}]

    async def find() -> dict[str, ModelApplication]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        found: dict[str, ModelApplication] = answer
        return found

    members = Members(InProcess({"well": replica(echo("well")).asgi}), [], 0.01, find, no_ledgers)
    before = members.alive
    await members.start()
    await settled(members.all)
    assert (before, members.alive) == (False, True)
    assert "could not ask Serve" in caplog.text
    await members.close()
    await settled(lambda: not members.alive)


async def test_a_gateway_that_cannot_ask_serve_at_first_does_not_start() -> None:
    async def find() -> dict[str, ModelApplication]:
        raise OSError("no controller")

    with pytest.raises(OSError, match="no controller"):
        await Members(InProcess({}), [], 60.0, find, no_ledgers).start()


@pytest.mark.parametrize(
    ("application", "state", "waited_for"),
    [
        (asleep("tiny"), "asleep", True),
        (running("tiny", replicas=0, wanted=1, may_sleep=True), "loading", True),
        (running("tiny", replicas=0, wanted=1), "starting", False),
        (running("tiny", status="DEPLOYING", replicas=0, wanted=1, may_sleep=True), "starting", False),
        (running("tiny", status="UNHEALTHY", replicas=0, wanted=1, may_sleep=True), "unhealthy", False),
        (running("tiny", wanted=1, may_sleep=True), "ready", False),
    ],
)
async def test_a_model_without_a_replica_sleeps_only_where_serve_means_it(
    two: Group, application: ModelApplication, state: str, waited_for: bool
) -> None:
    await two.refresh(tiny=application)
    tiny = two.members.get("tiny")
    assert (tiny.state, tiny.rests) == (state, waited_for)


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["loaded"], "ready"),
        (["resting"], "resting"),
        (["unloading"], "resting"),
        (["waiting"], "loading"),
        (["loading"], "loading"),
        (["resting", "loaded"], "ready"),
        (["resting", "loading"], "loading"),
        ([], "ready"),
    ],
)
async def test_a_model_is_in_memory_where_one_replica_says_so(two: Group, states: list[State], state: str) -> None:
    two.sleep.reports[:] = [Report("tiny", one, 10) for one in states]
    two.sleep.reports.append(Report("able", "loaded", 10))
    await two.refresh()
    assert [one.state for one in two.members.all()] == ["ready", state]


async def test_models_that_sleep_or_rest_are_candidates_only_when_asked_for(two: Group) -> None:
    await two.refresh(tiny=asleep("tiny"))
    two.sleep.reports.append(Report("able", "resting", 10))
    await two.refresh()
    assert two.members.candidates("chat") == []
    assert [(one.id, one.tools) for one in two.members.candidates("chat", resting=True)] == [
        ("able", True),
        ("tiny", False),
    ]


@pytest.mark.parametrize(
    ("handler", "likely", "unlikely"),
    [("llamacpp", "chat", "embeddings"), ("e5", "embeddings", "chat"), ("echo", "chat", "completion")],
)
async def test_what_a_model_can_do_that_was_never_in_memory_is_guessed(
    two: Group, handler: str, likely: str, unlikely: str
) -> None:
    await two.refresh(new=asleep("new", handler=handler))
    new = two.members.get("new")
    assert new.can(likely) and not new.can(unlikely) and not new.can("tools")


async def test_what_a_model_said_is_still_known_when_it_sleeps(two: Group) -> None:
    await two.refresh(able=asleep("able"))
    assert two.members.get("able").can("tools")
