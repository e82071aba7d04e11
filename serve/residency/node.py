"""The ledger of each node as a Ray actor: one a node, found by its name, started again when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from serve.logs import configure_logging
from serve.residency.desk import Desk, LedgerLine, LedgerLost, is_alive, this_process
from serve.residency.ledger import Holder, Ledger, Reply, Report
from serve.residency.limit import node_limit
from serve.residency.resident import FOLLOW_SECONDS
from serve.settings.environment import Environment

NAMESPACE = "groupqwen"
#: How often a ledger looks whether anyone still needs it.
_WATCH_SECONDS = 0.5


class NodeLedger(Desk):
    """The ledger of the node that this actor runs on.

    It outlives every replica, and ends when no replica and no gateway of its node is left: Ray waits half a minute
    for an actor before it lets a node go.
    """

    def __init__(self) -> None:
        configure_logging()
        context = ray.get_runtime_context()
        # The replicas of a ledger that was lost hold memory, and each says so within this time.
        quiet = 2 * FOLLOW_SECONDS if context.was_current_actor_reconstructed else 0.0
        super().__init__(Ledger(node_limit(Environment.read())), is_alive, quiet=quiet)
        self._actor = context.current_actor
        self._gateways: set[Holder] = set()
        self._watch: asyncio.Task[None] | None = None

    async def sync(self, holder: Holder, report: Report, wait: float) -> Reply:
        """As ``Desk.sync``."""
        self._begin()
        return await super().sync(holder, report, wait)

    async def told(self, gateway: Holder | None) -> list[Report]:
        """What each replica of the node said last. ``gateway`` is who asks, when it is on this node."""
        if gateway is not None:
            self._gateways.add(gateway)
            self._begin()
        return self.reports()

    def _begin(self) -> None:
        # Not in __init__, which runs before the actor's event loop.
        if self._watch is None:
            self._watch = asyncio.create_task(self._end_when_alone())

    async def _end_when_alone(self) -> None:
        while self.holders() or self._gateways:
            await asyncio.sleep(_WATCH_SECONDS)
            self._gateways = set(filter(is_alive, self._gateways))
        ray.kill(self._actor)


class RayLedgerLine(LedgerLine):
    """Calls the ledger's actor of this process's node."""

    def __init__(self) -> None:
        self._node = _own_node()

    async def sync(self, holder: Holder, report: Report, wait: float) -> Reply:
        """Call it, and wait for its reply."""
        try:
            reply: Reply = await _own_actor(self._node).sync.remote(holder, report, wait)
        except RayActorError as error:
            # It is being started again under its name, or has ended and a new one is made.
            _own_actor.cache_clear()
            raise LedgerLost(str(error)) from error
        return reply


async def reports_of(nodes: Iterable[str]) -> list[Report]:
    """What the replicas of some nodes said last; nodes whose ledger does not answer are left out. The ledger of this
    process's own node is asked in any case, and made when there is none."""
    found = await asyncio.gather(*map(_reports, {*nodes, _own_node()}))
    return [report for reports in found for report in reports]


async def _reports(node: str) -> list[Report]:
    own = node == _own_node()
    try:
        actor = await asyncio.to_thread(_own_actor if own else _actor_of, node)
        asked = actor.told.remote(this_process() if own else None)
        found: list[Report] = await asyncio.wait_for(asked, FOLLOW_SECONDS)
    except (ValueError, RayActorError, TimeoutError):
        # There is none yet, or it is being started again.
        _own_actor.cache_clear()
        _actor_of.cache_clear()
        return []
    return found


@cache
def _own_node() -> str:
    node: str = ray.get_runtime_context().get_node_id()
    return node


@cache
def _actor_of(node: str) -> Any:  # noqa: ANN401 - Ray's handle is not typed
    return ray.get_actor(_name(node), NAMESPACE)


@cache
def _own_actor(node: str) -> Any:  # noqa: ANN401 - Ray's handle is not typed
    """The ledger of this process's node, made when there is none."""
    made = ray.remote(NodeLedger).options(
        name=_name(node),
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )
    return made.remote()


def _name(node: str) -> str:
    return f"ledger-{node}"
