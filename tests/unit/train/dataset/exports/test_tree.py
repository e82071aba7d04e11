"""Branches of a tree of messages."""

from __future__ import annotations

import pytest

from train.dataset.exports.problems import Reason, Unusable
from train.dataset.exports.tree import MAX_BRANCHES, Tree


def test_a_conversation_without_messages_has_no_branches() -> None:
    assert list(Tree({}, {}, None).branches(every=True)) == []


def test_a_current_message_that_was_replied_to_ends_its_branch_and_the_reply_is_another() -> None:
    tree = Tree({"a": 1, "b": 2, "c": 3}, {"b": "a", "c": "b"}, "b")
    assert [branch.messages for branch in tree.branches(every=True)] == [[1, 2], [1, 2, 3]]


def test_a_long_branch_needs_no_recursion() -> None:
    ids = [str(number) for number in range(50_000)]
    (branch,) = Tree(dict.fromkeys(ids), dict(zip(ids[1:], ids, strict=False)), None).branches(every=True)
    assert len(branch.messages) == 50_000


def test_more_branches_than_any_person_makes_are_refused() -> None:
    ids = [str(number) for number in range(MAX_BRANCHES + 2)]
    tree = Tree(dict.fromkeys(ids), dict.fromkeys(ids[1:], "0"), None)
    with pytest.raises(Unusable) as raised:
        list(tree.branches(every=True))
    assert raised.value.reason is Reason.TOO_LARGE


def test_a_loop_without_an_end_is_refused_and_one_beside_the_branch_is_not_looked_at() -> None:
    messages, parents = {"a": 1, "b": 2, "c": 3}, {"a": "b", "b": "a"}
    with pytest.raises(Unusable):
        list(Tree(messages, parents, "a").branches(every=False))
    assert [branch.messages for branch in Tree(messages, parents, "c").branches(every=False)] == [[3]]
