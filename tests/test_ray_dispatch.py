"""Which worker does which job: the rules, without Ray and without a clock."""

import dataclasses
import math

import numpy as np
import pytest

from rlsched.agents.rollouts.errors import LostJobError, WorkerError
from rlsched.agents.rollouts.ray_dispatch import Dispatch, Limits
from rlsched.benchmarks.rollout_simulation import JOIN, Costs, Simulation


def test_jobs_are_given_in_order_and_each_is_done_once():
    dispatch = Dispatch(["a", "b", "c"], Limits())
    assert [dispatch.give(worker, 0.0) for worker in (7, 8)] == [0, 1]
    assert dispatch.finish(8) == 1
    assert dispatch.give(8, 1.0) == 2
    assert dispatch.give(9, 1.0) is None
    assert not dispatch.over
    assert [dispatch.finish(worker) for worker in (7, 8)] == [0, 2]
    assert dispatch.over


def test_no_jobs_are_done_at_once():
    assert Dispatch([], Limits()).over


def test_a_lost_job_is_the_next_to_be_given():
    dispatch = Dispatch(["a", "b", "c"], Limits())
    dispatch.give(0, 0.0)
    dispatch.give(1, 0.0)
    dispatch.lose(0, "power cut")
    dispatch.lose(5, "an idle worker takes no job with it")
    assert [dispatch.give(worker, 1.0) for worker in (2, 3)] == [0, 2]


def test_late_is_who_has_passed_the_deadline():
    dispatch = Dispatch(["a", "b"], Limits(deadline=10.0))
    assert dispatch.patience(0.0) == math.inf
    dispatch.give(0, 0.0)
    dispatch.give(1, 4.0)
    assert dispatch.patience(3.0) == 7.0
    assert dispatch.late(9.9) == []
    assert dispatch.late(10.0) == [0]
    assert dispatch.patience(20.0) == 0.0
    dispatch.finish(0)
    assert dispatch.late(14.0) == [1]


def test_a_job_that_loses_every_worker_is_given_up_with_all_reasons():
    dispatch = Dispatch(["a", "b"], Limits(max_failures=2))
    dispatch.give(0, 0.0)
    dispatch.lose(0, "burnt")
    dispatch.give(1, 0.0)
    with pytest.raises(LostJobError, match=r"'a' lost its worker 2 times: \(1\) burnt; \(2\) drowned"):
        dispatch.lose(1, "drowned")


def test_workers_that_die_in_a_row_are_given_up_but_not_if_jobs_are_done_in_between():
    dispatch = Dispatch(["a"] * 10, Limits(max_failures=9, max_deaths=3))
    for worker in range(0, 8, 2):
        dispatch.lose(worker, "not started")
        dispatch.give(worker + 1, 0.0)
        dispatch.finish(worker + 1)
    dispatch.lose(20, "not started")
    dispatch.lose(21, "not started")
    with pytest.raises(LostJobError, match="3 workers were lost one after another"):
        dispatch.lose(22, "not started")


def test_a_job_may_raise_once():
    dispatch, cause = Dispatch(["a"], Limits()), KeyError("x")
    dispatch.give(0, 0.0)
    dispatch.fail(0, "the first trace", cause)
    assert dispatch.give(1, 0.0) == 0
    with pytest.raises(WorkerError, match=r"'a' raised an exception, on two workers(?s:.*)the trace") as caught:
        dispatch.fail(1, "the trace", cause)
    assert caught.value.__cause__ is cause


def test_a_long_description_of_a_job_is_cut():
    dispatch = Dispatch(["x" * 1000], Limits(max_failures=1))
    dispatch.give(0, 0.0)
    with pytest.raises(LostJobError) as caught:
        dispatch.lose(0, "gone")
    assert "x" * 190 + "..." in str(caught.value)
    assert len(str(caught.value)) < 600


FREE = Costs(give=0.0, take=0.0, look=0.0, look_each=0.0)


def test_simulated_workers_that_cost_nothing_are_always_at_work():
    outcome = Simulation(8, np.array([2.0]), FREE).run(iterations=3, units=24)
    assert outcome.workers == pytest.approx(1.0)
    assert outcome.driver == 0.0


def test_a_simulated_iteration_is_a_unit_and_the_updates_or_the_longer_of_them():
    update = dataclasses.replace(FREE, update=0.5)
    simulation = Simulation(8, np.array([2.0]), update)
    assert simulation.run(10, units=8).workers == pytest.approx(2.0 / (2.0 + 8 * 0.5))
    overlapping = Simulation(8, np.array([2.0]), update).run(1000, units=8, overlap=True)
    assert overlapping.workers == pytest.approx(2.0 / (8 * 0.5), rel=0.01)


def test_a_simulated_driver_can_serve_no_more_workers_than_it_has_time_for():
    costs = Costs(give=0.1, take=0.3, look=0.0, look_each=0.0)
    outcome = Simulation(1000, np.array([2.0]), costs).run(2, units=20_000)
    assert outcome.workers == pytest.approx(2.0 / 0.4 / 1000, rel=0.02)
    assert outcome.driver == pytest.approx(1.0, abs=0.02)


def test_simulated_losses_cost_the_work_begun_and_the_wait_for_another_worker():
    rate, seconds = 0.01, 5.0
    outcome = Simulation(50, np.array([seconds]), FREE, deaths=rate).run(1, units=20_000)
    done = np.exp(-rate * seconds)
    begun = (1.0 - done) / rate  # mean time at work, whether it ends well or not
    assert outcome.workers == pytest.approx(seconds * done / (begun + (1.0 - done) * JOIN), rel=0.02)
