"""Which worker does which job: the rules, without Ray and without a clock."""

import math

import pytest

from rlsched.agents.rollouts.errors import LostJobError, WorkerError
from rlsched.agents.rollouts.ray_dispatch import Dispatch, Limits


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
