"""Whether a job's workers find room on nodes, beside serving."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from serve.capacity import Capacity, Node, Resources
from serve.gateway.fine_tuning.room import memory_places
from serve.gateway.members import Member
from serve.residency.ledger import Report
from serve.room import beside_serving, could_have_room, has_room
from serve.store import FineTuningJob
from tests.unit.gateway.group import running

AMOUNTS = st.integers(0, 80).map(lambda tenths: tenths / 10)
BUNDLES = st.lists(st.fixed_dictionaries({"CPU": AMOUNTS, "GPU": st.integers(0, 3).map(float)}), max_size=5)


def cluster(
    *free: Resources, minimum: list[Resources] | None = None, missing: list[Resources] | None = None
) -> Capacity:
    nodes = tuple(Node(f"n{number}", one, one) for number, one in enumerate(free))
    return Capacity(nodes, tuple(minimum or ()), tuple(missing or ()))


def test_each_worker_has_to_fit_on_one_node() -> None:
    two = cluster({"CPU": 2, "GPU": 1}, {"CPU": 2, "GPU": 1})
    assert has_room(two, [], [{"CPU": 2, "GPU": 1}] * 2)
    assert not has_room(two, [], [{"CPU": 1, "GPU": 2}])
    assert not has_room(two, [], [{"CPU": 3}])
    assert not has_room(two, [{"CPU": 1, "GPU": 1}], [{"CPU": 1, "GPU": 1}] * 2)


def test_a_gpu_that_serving_lacks_is_left_for_it() -> None:
    lost = cluster({"CPU": 8, "GPU": 1}, missing=[{"CPU": 1, "GPU": 1}])
    assert not has_room(lost, [], [{"CPU": 1, "GPU": 1}])
    assert has_room(lost, [], [{"CPU": 7}])


def test_a_model_that_no_node_could_hold_keeps_nothing_from_jobs() -> None:
    impossible: Resources = {"CPU": 1, "GPU": 1}
    lost: Resources = {"CPU": 2}
    capacity = cluster({"CPU": 8}, minimum=[impossible, lost, {"CPU": 3}], missing=[impossible, lost])
    assert has_room(capacity, [], [{"CPU": 6}])
    assert not has_room(capacity, [], [{"CPU": 7}])
    assert could_have_room(capacity, [{"CPU": 3}])
    assert not could_have_room(capacity, [{"CPU": 4}])
    assert beside_serving(capacity)["CPU"] == 3


def test_of_replicas_that_do_not_all_fit_those_that_do_are_left_their_place() -> None:
    one: Resources = {"CPU": 1, "GPU": 1}
    capacity = cluster({"CPU": 4, "GPU": 1}, minimum=[one] * 2, missing=[one] * 2)
    assert has_room(capacity, [], [{"CPU": 3}])
    assert not has_room(capacity, [], [one])


def test_what_could_never_fit_is_known_from_the_whole_of_the_nodes() -> None:
    capacity = cluster({"CPU": 2}, minimum=[{"CPU": 0.3}, {"CPU": 0.4}, {"CPU": 0.1}])
    assert could_have_room(capacity, [{"CPU": 1.2}])
    assert not could_have_room(capacity, [{"CPU": 1.3}])
    assert round(beside_serving(capacity)["CPU"], 6) == 1.2


def test_tenths_add_up_as_ray_counts_them() -> None:
    assert has_room(cluster({"CPU": 0.3}), [{"CPU": 0.1}] * 2, [{"CPU": 0.1}])


def test_no_nodes_have_no_room() -> None:
    assert not has_room(cluster(), [], [{"CPU": 0.1}])
    assert memory_places(cluster(), [], [], 1) == 0


def test_models_that_are_in_memory_take_their_share_of_their_nodes() -> None:
    capacity = cluster({"memory": 10e9}, {"memory": 10e9})
    loaded, resting = Report("m", "loaded", int(4e9)), Report("m", "resting", int(4e9))
    member = Member(running("m", nodes=frozenset({"n0"})), reports=(loaded, resting))
    assert memory_places(capacity, [], [], int(5e9)) == 4
    assert memory_places(capacity, [member], [], int(5e9)) == 3


def job(gigabytes: float | None, workers: int = 1, *, gpus: int = 0, nodes: list[str] | None = None) -> FineTuningJob:
    """A job that runs, whose workers take so much each, and have said where they are or not."""
    bytes = None if gigabytes is None else int(gigabytes * 1e9)
    return FineTuningJob(
        id="ftjob-1",
        tenant="local",
        created_at=datetime.now(UTC),
        model="m",
        adapter="a",
        run="/nowhere",
        training_file="f",
        fingerprint="0",
        seed=0,
        method={},
        plan={"workers": workers, "cpus": 1.0, "gpus": gpus, "bytes": bytes},
        progress={} if nodes is None else {"nodes": nodes},
    )


def test_jobs_that_run_take_all_that_they_are_estimated_to_on_the_nodes_that_they_are_on() -> None:
    capacity = cluster({"memory": 10e9}, {"memory": 10e9})
    assert memory_places(capacity, [], [job(6, nodes=["n1"])], int(5e9)) == 2
    assert memory_places(capacity, [], [job(3, 2, nodes=["n1", "n1"])], int(5e9)) == 2
    assert memory_places(capacity, [], [job(3, 2, nodes=["n0", "n1"])], int(5e9)) == 2
    assert memory_places(capacity, [], [job(6, 2, nodes=["n0", "n1"])], int(5e9)) == 0
    loaded = Member(running("m", nodes=frozenset({"n0"})), reports=(Report("m", "loaded", int(4e9)),))
    assert memory_places(capacity, [loaded], [job(6, nodes=["n1"])], int(5e9)) == 1


def test_workers_that_have_not_said_where_they_are_count_where_there_is_most_room() -> None:
    capacity = cluster({"memory": 10e9}, {"memory": 16e9})
    assert memory_places(capacity, [], [job(6)], int(10e9)) == 2
    assert memory_places(capacity, [], [job(6, 2)], int(10e9)) == 1
    # The node is gone, and Ray starts them elsewhere.
    assert memory_places(capacity, [], [job(6, nodes=["lost"])], int(10e9)) == 2
    assert memory_places(cluster(), [], [job(6)], 1) == 0


def test_what_is_not_known_of_a_job_takes_nothing() -> None:
    capacity = cluster({"memory": 10e9})
    assert memory_places(capacity, [], [job(None), job(9, gpus=1)], int(5e9)) == 2


@given(BUNDLES, BUNDLES, BUNDLES)
def test_what_fits_takes_no_more_than_there_is(
    nodes: list[Resources], missing: list[Resources], wanted: list[Resources]
) -> None:
    capacity = cluster(*nodes, missing=missing)
    if has_room(capacity, [], wanted):
        for name in ("CPU", "GPU"):
            taken = sum(bundle[name] for bundle in [*missing, *wanted])
            assert taken <= sum(node[name] for node in nodes) + 1e-3
