"""Branches of a conversation that was edited or answered again: a tree of messages, each with its parent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serve.store.values import clean_text
from train.dataset.exports.problems import Reason, Unusable

MAX_BRANCHES = 1000


@dataclass(frozen=True, slots=True)
class Branch:
    """Messages from the first to the last.

    Attributes:
        leaf: the source's id of the last one; none for the branch that the user saw last.
        complete: whether it begins at a root, rather than at a message whose parent is missing.
    """

    leaf: str | None
    messages: list[Any]
    complete: bool = True


class Tree:
    """Messages by their ids.

    Args:
        messages: whatever a message is, by id, in the source's order.
        parents: the parent of each that has one. A parent that is not among the messages ends a branch there.
        current: the message that the user saw last.
        roots: ids that stand for the beginning, and not for a message that is missing.
    """

    def __init__(
        self,
        messages: Mapping[str, Any],
        parents: Mapping[str, str],
        current: str | None,
        roots: frozenset[str] = frozenset(),
    ) -> None:
        self._messages = dict(messages)
        self._parents = parents
        self._roots = roots
        self._current = current if current in messages else None

    def branches(self, *, every: bool) -> Iterator[Branch]:
        """The branch that the user saw last, and then, where ``every`` is true, the others.

        Where the source does not say which one that is, it is the one of the last message that nobody is a reply to.

        Raises:
            Unusable: a message is its own ancestor, or there are more than ``MAX_BRANCHES`` branches.
        """
        if not self._messages:
            return
        replied_to = set(self._parents.values())
        leaves = [id for id in self._messages if id not in replied_to]
        last = self._current or (leaves[-1] if leaves else next(reversed(self._messages)))
        yield self._branch(last, None)
        if not every:
            return
        if len(leaves) > MAX_BRANCHES:
            raise Unusable(Reason.TOO_LARGE, f"{len(leaves)} branches; at most {MAX_BRANCHES}")
        for leaf in leaves:
            if leaf != last:
                yield self._branch(leaf, clean_text(leaf))

    def _branch(self, last: str, leaf: str | None) -> Branch:
        path: list[str] = []
        seen: set[str] = set()
        here: str | None = last
        while here is not None and here in self._messages:
            if here in seen:
                raise Unusable(Reason.BROKEN_TREE, "a message is its own ancestor")
            seen.add(here)
            path.append(here)
            here = self._parents.get(here)
        complete = here is None or here in self._roots
        return Branch(leaf, [self._messages[id] for id in reversed(path)], complete)
