"""Jobs done by Ray: the same results as in one process, also when workers and machines are killed."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlsched import _check
from rlsched.agents.rollouts import InProcess, Job, Setting
from rlsched.agents.rollouts.errors import ClusterError, LostJobError, NoWorkerError, RolloutError, WorkerError
from tests.ray_jobs import (
    SETTING,
    WEIGHTS,
    Killing,
    Once,
    OwnError,
    Raising,
    Train,
    Unreadable,
    Waiting,
    same,
)  # fmt: skip

pytest.importorskip("ray")
from rlsched.agents.rollouts import ray_backend
from rlsched.agents.rollouts.ray_backend import RayBackend

JOBS = [Train(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def expected():
    return InProcess(SETTING).run(JOBS, WEIGHTS)


@pytest.fixture(scope="module")
def three(ray_cluster):
    """Three workers, all of them ready; each takes seconds to start, and the tests below kill many."""
    with RayBackend(SETTING, 3) as backend:
        ready(backend, 3)
        yield backend


def ready(backend, count):
    """Wait until `count` workers have a place."""
    end = time.monotonic() + 90
    while backend.ready < count and time.monotonic() < end:
        backend.run([])
        time.sleep(0.05)
    assert backend.ready == count


def pids(folder: Path, count: int) -> list[int]:
    """The processes that do `Waiting` jobs, once there are `count`."""
    end = time.monotonic() + 60
    while len(found := [int(path.stem) for path in folder.glob("*.pid")]) < count:
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def test_several_workers_give_the_results_of_one_process(three, expected):
    calls: dict[int, Any] = {}
    found = three.run(JOBS, WEIGHTS, done=calls.__setitem__)
    assert same(found, expected)
    assert same([calls[number] for number in range(len(JOBS))], expected)
    assert found[0]["loss"].flags.writeable, "as in one process"


def test_weights_are_those_of_the_submission(three, expected):
    weights = {name: value.copy() for name, value in WEIGHTS.items()}
    pending = three.submit(JOBS, weights)
    weights["scale"][:] = 100.0
    assert same(pending.results(), expected)
    other = three.run(JOBS, weights)
    assert not same(other, expected)


def test_results_may_be_taken_late_and_twice_but_batches_not_mixed(three, expected):
    pending = three.submit(JOBS, WEIGHTS)
    with pytest.raises(_check.ArgumentError, match="one batch at a time"):
        three.submit(JOBS, WEIGHTS)
    time.sleep(0.5)
    assert same(pending.results(), expected)
    three.run([])
    assert same(pending.results(), expected)


def test_one_worker_killed_at_work(three, expected, tmp_path):
    jobs = [Once(tmp_path / "marker", "kill", seed=0), *JOBS[1:]]
    assert same(three.run(jobs, WEIGHTS), expected)
    assert (tmp_path / "marker").exists()


def test_several_workers_killed_at_once(three, expected, tmp_path):
    ready(three, 3)
    pending = three.submit([Waiting(tmp_path, seed) for seed in range(5)], WEIGHTS)
    for pid in pids(tmp_path, 3)[:2]:
        os.kill(pid, signal.SIGKILL)
    (tmp_path / "go").touch()
    assert same(pending.results(), expected)


def test_idle_workers_killed_between_batches(three, expected, tmp_path):
    ready(three, 3)
    (tmp_path / "go").touch()
    three.run([Waiting(tmp_path, seed) for seed in range(8)], WEIGHTS)
    for pid in pids(tmp_path, 1)[:2]:
        os.kill(pid, signal.SIGKILL)
    assert same(three.run(JOBS, WEIGHTS), expected)


def test_a_job_that_kills_every_worker_ends_with_an_error_and_the_backend_goes_on(three, expected):
    with pytest.raises(
        LostJobError, match=r"Killing\(\) lost its worker 3 times: \(1\) its process \d+ on"
    ) as caught:
        three.run([Killing(), *JOBS], WEIGHTS)
    assert "memory running out" in str(caught.value)
    assert same(three.run(JOBS, WEIGHTS), expected)


def test_an_exception_comes_with_the_workers_traceback_and_its_cause(three, expected):
    pending = three.submit([*JOBS, Raising()], WEIGHTS)
    with pytest.raises(WorkerError, match=r"Raising\(own=False\) raised an exception") as caught:
        pending.results()
    assert isinstance(caught.value.__cause__, KeyError)
    assert 'return weights["no such key"]' in str(caught.value)
    assert "ray_jobs.py" in str(caught.value)
    with pytest.raises(RolloutError, match="were given up after an error: submit them again"):
        pending.results()
    assert same(three.run(JOBS, WEIGHTS), expected)


def test_an_exception_that_cannot_be_unpickled_is_told_by_its_traceback(three):
    with pytest.raises(WorkerError, match="OwnError: this and that") as caught:
        three.run([Raising(own=True)])
    assert not isinstance(caught.value.__cause__, OwnError)


def test_an_exception_of_the_moment_is_forgiven(three, expected, tmp_path):
    jobs = [*JOBS[:4], Once(tmp_path / "marker", "raise", seed=4)]
    assert same(three.run(jobs, WEIGHTS), expected)
    assert (tmp_path / "marker").exists()


def test_a_late_worker_is_killed_and_its_job_done_again(ray_cluster, expected, tmp_path):
    with RayBackend(SETTING, 1, deadline=8.0) as backend:
        ready(backend, 1)
        jobs: list[Job] = [Once(tmp_path / "marker", "hang", seed=0), *JOBS[1:]]
        assert same(backend.run(jobs, WEIGHTS), expected)
    pid = int((tmp_path / "marker").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_no_place_to_run_is_told_with_what_there_is(ray_cluster):
    with RayBackend(SETTING, 2, num_cpus=64, start_timeout=1.0) as backend:
        pending = backend.submit(JOBS, WEIGHTS)
        words = r"Each of 2 asks for 64 CPU and 0 GPU; the cluster has 8 CPU \(.* free\)"
        with pytest.raises(NoWorkerError, match=words):
            pending.results()


def test_workers_without_a_place_join_when_there_is_one(three, expected, ray_cluster):
    with RayBackend(SETTING, 2, num_cpus=5) as backend:  # room for one beside `three`
        assert same(backend.run(JOBS, WEIGHTS), expected), "one worker gives the results of one process too"
        assert backend.ready == 1
        with RayBackend(SETTING, 1, num_cpus=5) as other:
            backend.close()
            assert same(other.run(JOBS, WEIGHTS), expected)
    assert ray_cluster.is_initialized(), "a Ray that the caller started goes on"


def test_workers_that_cannot_read_their_setting_end_with_their_traceback(ray_cluster):
    broken = Setting(Unreadable(), SETTING.interface)  # type: ignore[arg-type]
    with RayBackend(broken, 2) as backend, pytest.raises(WorkerError, match="workers cannot start") as caught:
        backend.run(JOBS, WEIGHTS)
    assert "no module named 'theirs'" in str(caught.value)


def test_what_cannot_be_sent_is_refused(ray_cluster):
    generator = (value for value in range(3))
    with pytest.raises(_check.ArgumentError, match="setting must be picklable"):
        RayBackend(Setting(generator, SETTING.interface), 1)  # type: ignore[arg-type]


def test_a_full_store_is_told(three, monkeypatch):
    def full(value):
        raise ray_backend.ray.exceptions.ObjectStoreFullError("no room")

    monkeypatch.setattr(ray_backend.ray, "put", full)
    with pytest.raises(ClusterError, match="object store is full: use smaller or fewer rollout units"):
        three.submit(JOBS, {"big": np.zeros(3)})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"workers": 0}, "workers must be an integer >= 1, got 0"),
        ({"workers": 1, "deadline": 0.0}, "deadline must be a finite number >= 1.0, got 0.0"),
        ({"workers": 1, "max_failures": 0}, "max_failures must be an integer >= 1"),
        ({"workers": 1, "threads": 0}, "threads must be an integer >= 1"),
    ],
)
def test_arguments_are_checked(arguments, words):
    with pytest.raises(_check.ArgumentError, match=words):
        RayBackend(SETTING, **arguments)


def test_a_closed_backend_says_so(ray_cluster):
    backend = RayBackend(SETTING, 1)
    backend.close()
    backend.close()
    with pytest.raises(_check.ArgumentError, match="the backend is closed"):
        backend.submit(JOBS)
