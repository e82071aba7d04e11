"""The queue: who starts when, and what is left alone for whom."""

from __future__ import annotations

from typing import Any

from tests.unit.gateway.jobs import Bench
from train.jobs import Look


async def test_the_first_of_the_queue_starts_when_there_is_room_and_nobody_overtakes_it(one: Bench) -> None:
    large = await one.queued(plan={"workers": 3, "cpus": 1.0, "gpus": 0, "bytes": None})
    small = await one.queued()
    one.cluster.free["CPU"] = 2.0
    for _ in range(2):
        await one.look()
    assert [(await one.job(job.id)).status for job in (large, small)] == ["queued", "queued"]
    told = [event.message for event in await one.told(large)]
    assert told.count("Waiting for 3 x (1 CPU, 0 GPU) to be free") == 1
    one.cluster.free["CPU"] = 3.0
    await one.look()
    assert [(await one.job(job.id)).status for job in (large, small)] == ["running", "queued"]
    # Its workers have not taken what they will take.
    await one.look()
    assert (await one.job(small.id)).status == "queued"
    one.log(large).state("running", "the workers are there")
    one.cluster.free["CPU"] = 1.0
    await one.look()
    await one.look()
    assert (await one.job(small.id)).status == "running"


async def test_what_a_job_takes_is_kept_for_it_while_its_workers_are_lost(one: Bench) -> None:
    wide = await one.queued(plan={"workers": 3, "cpus": 1.0, "gpus": 0, "bytes": None})
    await one.look()
    await one.look()
    log = one.log(wide)
    log.state("running", "the workers are there")
    log.state("starting", "worker 1 is lost")
    await one.look()
    other = await one.queued(plan={"workers": 2, "cpus": 1.0, "gpus": 0, "bytes": None})
    await one.look()
    assert (await one.job(other.id)).status == "queued"
    log.state("running", "the workers are there again")
    await one.look()
    one.cluster.free["CPU"] = 2.0
    await one.look()
    assert (await one.job(other.id)).status == "running"


async def test_what_serving_lacks_to_its_minimum_is_left_free(one: Bench) -> None:
    job = await one.queued()
    one.cluster.missing = [{"CPU": 3.5}]
    await one.look()
    assert (await one.job(job.id)).status == "queued"
    one.cluster.missing = []
    await one.look()
    assert (await one.job(job.id)).status == "running"


async def test_a_run_that_finds_its_room_taken_waits_in_its_place_and_says_why(one: Bench) -> None:
    job = await one.running()
    later = await one.queued()
    one.log(job).state("queued", "1 x (1 CPU, 0 GPU) are not free beside what serving lacks")
    one.cluster.free["CPU"] = 0.0
    for looks in (1, 2):
        one.ray.looks[job.submission] = Look("failed", exit_code=69)
        await one.look()
        waiting = await one.job(job.id)
        assert (waiting.status, waiting.attempt, waiting.restarts) == ("queued", 1, 0), looks
    assert waiting.queued_at == job.queued_at
    told = [event.message for event in await one.told(job)]
    assert sum("are not free beside what serving lacks" in line for line in told) == 1
    one.cluster.free["CPU"] = 1.0
    for _ in range(2):
        await one.look()
    again = await one.job(job.id)
    assert (again.status, again.attempt, again.submitted) == ("running", 2, True)
    assert (await one.job(later.id)).status == "queued"


async def test_a_job_that_waits_for_room_is_paused_or_cancelled_at_once(one: Bench) -> None:
    one.cluster.free["CPU"] = 0.0
    for what, status in (("pause", "paused"), ("cancel", "cancelled")):
        job = await one.queued()
        await one.look()
        assert (await one.call("POST", f"/{job.id}/{what}")).json()["status"] == status


async def test_memory_that_models_have_taken_meanwhile_is_waited_for(one: Bench) -> None:
    job = await one.queued(plan={"workers": 2, "cpus": 1.0, "gpus": 0, "bytes": int(3e9)})
    small = await one.queued(plan={"workers": 1, "cpus": 1.0, "gpus": 0, "bytes": int(1e9)})
    one.cluster.total["memory"] = 4e9
    for _ in range(2):
        await one.look()
    assert (await one.job(job.id)).status == "queued"
    assert (await one.job(small.id)).status == "running", "no job gives back what models hold"
    one.log(small).state("running", "the workers are there")
    told = [event.message for event in await one.told(job)]
    assert sum("have room for 1 of its 2 workers" in line for line in told) == 1
    one.cluster.total["memory"] = 64e9
    await one.look()
    assert (await one.job(job.id)).status == "running"


def workers_of(gigabytes: float, workers: int = 1) -> dict[str, Any]:
    """A plan whose workers take so much memory each."""
    return {"workers": workers, "cpus": 1.0, "gpus": 0, "bytes": int(gigabytes * 1e9)}


async def test_two_jobs_whose_memory_fits_one_by_one_and_not_together_run_one_after_the_other(one: Bench) -> None:
    one.cluster.total["memory"] = 8e9
    first = await one.queued(plan=workers_of(5))
    second = await one.queued(plan=workers_of(5))
    third = await one.queued(plan=workers_of(1))
    for _ in range(3):
        await one.look()
    one.log(first).state("running", "the workers are there")
    for _ in range(2):
        await one.look()
    assert [(await one.job(job.id)).status for job in (first, second)] == ["running", "queued"]
    assert (await one.job(third.id)).status == "queued", "the first job gives its memory back, so nobody overtakes"
    told = [event.message for event in await one.told(second)]
    assert (
        sum("beside the models and the jobs that run, the nodes have room for 0 of its 1" in line for line in told)
        == 1
    )
    await one.ended(await one.job(first.id), Look("failed", exit_code=1), "failed")
    await one.look()
    assert [(await one.job(job.id)).status for job in (first, second, third)] == ["failed", "running", "queued"]
    await one.look()
    one.log(second).state("running", "the workers are there")
    for _ in range(2):
        await one.look()
    assert (await one.job(third.id)).status == "running", "these two fit together"


async def test_a_cancelled_job_keeps_its_memory_until_its_program_has_ended(one: Bench) -> None:
    one.cluster.total["memory"] = 8e9
    first = await one.running(plan=workers_of(5))
    await one.call("POST", f"/{first.id}/cancel")
    second = await one.queued(plan=workers_of(5))
    await one.group.runner.look()
    assert (await one.job(second.id)).status == "queued"
    for _ in range(3):
        await one.look()
    assert (await one.job(second.id)).status == "running"


async def test_jobs_on_gpus_take_nothing_of_the_memory_that_is_counted(one: Bench) -> None:
    one.cluster.total |= {"memory": 8e9, "GPU": 1.0}
    one.cluster.free |= {"GPU": 1.0}
    await one.running(plan={**workers_of(70), "gpus": 1})
    other = await one.queued(plan=workers_of(5))
    await one.look()
    assert (await one.job(other.id)).status == "running"


async def test_the_nodes_of_a_jobs_workers_are_known_from_its_events(one: Bench) -> None:
    job = await one.running()
    one.log(job).write("message", "loaded by peft", {"nodes": ["n", "m"]})
    await one.look()
    assert (await one.job(job.id)).progress["nodes"] == ["n", "m"]
