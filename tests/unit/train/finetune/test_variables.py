"""Which environment variables Ray is started with."""

from __future__ import annotations

import os

import pytest

from train.finetune.variables import OWN_NODE, ray_train, where_unset

WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"


def test_what_is_set_already_stays_and_the_rest_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, *others = OWN_NODE
    monkeypatch.setenv(mine, "7")
    with pytest.raises(ZeroDivisionError), where_unset(OWN_NODE):
        assert {name: os.environ[name] for name in OWN_NODE} == {**OWN_NODE, mine: "7"}
        raise ZeroDivisionError
    assert os.environ[mine] == "7"
    assert not set(others) & set(os.environ)


def test_nobody_looks_for_nodes_that_are_taken_away_where_there_is_one_only() -> None:
    assert ray_train(1)[WATCHER] == "0"
    assert WATCHER not in ray_train(2)


def test_rays_own_names_are_the_ones_that_are_set() -> None:
    from ray.train.v2._internal import constants

    assert ray_train(1).keys() == {
        constants.ENABLE_PREEMPTION_WATCHER_ENV_VAR,
        constants.WORKER_GROUP_START_TIMEOUT_S_ENV_VAR,
    }
