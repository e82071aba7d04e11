"""Gateways that die, and a Ray that does not answer: jobs go on with what is in the database."""

from __future__ import annotations

import pytest

from serve.gateway.fine_tuning import Runner
from tests.unit.gateway.jobs import Bench


async def test_a_ray_that_does_not_answer_is_waited_for(one: Bench) -> None:
    job = await one.queued()
    one.ray.down = True
    for _ in range(3):
        await one.look()
    assert (await one.job(job.id)).submitted is False
    one.ray.down = False
    await one.look()
    assert (await one.job(job.id)).submitted is True


async def test_a_run_that_rays_new_cluster_does_not_know_is_started_again(one: Bench) -> None:
    job = await one.running()
    # What a run says whose node is stopped in order.
    one.log(job).state("cancelled", "interrupted")
    one.ray.looks.clear()
    for _ in range(3):
        await one.look()
    again = await one.job(job.id)
    assert (again.status, again.attempt) == ("running", 2)
    assert f"{job.id}-2" in one.ray.looks


async def test_another_gateway_goes_on_when_the_one_that_ran_the_jobs_is_gone(one: Bench) -> None:
    job = await one.running()
    other = Runner(
        one.group.store,
        one.group.keeper,
        one.group.members,
        one.group.runner.settings,
        ray_jobs=one.ray,
        ask_capacity=one.cluster.capacity,
    )
    one.log(job).write("message", "said later")
    await one.look_with(other)
    assert "said later" not in [event.message for event in await one.told(job)]
    await one.group.runner.close()
    await one.look_with(other)
    assert "said later" in [event.message for event in await one.told(job)]
    await other.close()


async def test_a_gateway_that_starts_again_goes_on_with_what_is_in_the_database(one: Bench) -> None:
    job = await one.running()
    one.log(job).write("message", "said while no gateway was there")
    one.group.runner.start()
    one.group.runner.wake()
    for _ in range(500):
        if any("no gateway" in event.message for event in await one.told(job)):
            break
        await one.look()
    else:
        pytest.fail("the event did not come")
    assert list(one.ray.commands) == [f"{job.id}-1"]
