"""Who makes a request: the owner of a key, or the person at this machine."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope

from serve.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller.

    Attributes:
        tenant: whose data it sees: the key's id, or ``local``.
        scopes: what it may do.
        key_id: the key's id; none for the person at this machine.
    """

    tenant: str
    scopes: frozenset[str]
    key_id: str | None = None

    def require(self, scope: str) -> None:
        """Raise ``Forbidden`` when the caller may not do what ``scope`` names."""
        if scope not in self.scopes:
            raise Forbidden(f"This key does not have the scope {scope!r}.")


#: The person at this machine, where no key is needed.
LOCAL = Caller("local", frozenset({"inference", "conversations", "files", "admin"}))


#: A task of this group, which asks for somebody whose request was counted already.
GROUP = Caller("group", frozenset({"inference"}))


async def admit(scope: Scope) -> Caller:
    """The caller of one more request on an open socket: its key may have been revoked, and each request counts."""
    found = await scope["state"]["admit"]()
    assert isinstance(found, Caller)
    found.require("inference")
    return found


def caller_of(scope: Scope) -> Caller:
    """The caller that the access middleware found."""
    found = scope["state"]["caller"]
    assert isinstance(found, Caller)
    return found
