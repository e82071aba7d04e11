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
from serve.residency.desk import Desk, LedgerLine, LedgerLost, is_alive
from serve.residency.ledger import Holder, Ledger, Reply, Report
from serve.residency.limit import node_limit
from serve.residency.resident import FOLLOW_SECONDS
from serve.settings.environment import Environment

NAMESPACE = "groupqwen"


class NodeLedger(Desk):
    """The ledger of the node that this actor runs on."""

    def __init__(self) -> None:
        configure_logging()
        # The replicas of a ledger that was lost hold memory, and each says so within this time.
        again = ray.get_runtime_context().was_current_actor_reconstructed
        limit = node_limit(Environment.read())
        super().__init__(Ledger(limit), is_alive, quiet=2 * FOLLOW_SECONDS if again else 0.0)


class RayLedgerLine(LedgerLine):
    """Calls the ledger's actor."""

    def __init__(self, actor: Any) -> None:  # noqa: ANN401 - Ray's handle is not typed
        self._actor = actor

    async def sync(self, holder: Holder, report: Report, wait: float) -> Reply:
        """Call it, and wait for its reply."""
        try:
            reply: Reply = await self._actor.sync.remote(holder, report, wait)
        except RayActorError as error:
            raise LedgerLost(str(error)) from error
        return reply


def own_ledger() -> RayLedgerLine:
    """The ledger of this process's node, made when there is none. It outlives who asks for it."""
    node = ray.get_runtime_context().get_node_id()
    actor = ray.remote(NodeLedger).options(
        name=_name(node),
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )
    return RayLedgerLine(actor.remote())


async def reports_of(nodes: Iterable[str]) -> list[Report]:
    """What the replicas of some nodes said last; nodes whose ledger does not answer are left out."""
    found = await asyncio.gather(*map(_reports, nodes))
    return [report for reports in found for report in reports]


async def _reports(node: str) -> list[Report]:
    try:
        actor = await asyncio.to_thread(_ledger_of, node)
        found: list[Report] = await asyncio.wait_for(actor.reports.remote(), FOLLOW_SECONDS)
    except (ValueError, RayActorError, TimeoutError):
        # There is none yet, or it is being started again.
        return []
    return found


@cache
def _ledger_of(node: str) -> Any:  # noqa: ANN401 - Ray's handle is not typed
    return ray.get_actor(_name(node), NAMESPACE)


def _name(node: str) -> str:
    return f"ledger-{node}"
