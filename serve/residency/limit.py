"""How much memory the models of a node may hold together."""

from __future__ import annotations

from serve.devices.memory import limit_bytes
from serve.settings.environment import Environment

#: Left to Ray, Serve, the gateway and the system where no limit is set.
RESERVE_BYTES = 1536 * 1024 * 1024


def node_limit(environment: Environment) -> int:
    """``GROUPQWEN_MEMORY_LIMIT``, or what this node or its container has but for a reserve for everything else."""
    if environment.memory_limit is not None:
        return environment.memory_limit
    return max(0, limit_bytes() - RESERVE_BYTES)
