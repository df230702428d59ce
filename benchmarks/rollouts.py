"""Rollouts by Ray: two workers against one, what the driver spends, and by simulation what many would give."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import time
import unittest.mock
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from rlsched.agents.ppo import RolloutPlan, SchedulePPO
from rlsched.agents.rollouts import (
    Backend,
    Done,
    InProcess,
    Pending,
    Rollout,
    RolloutUnit,
    Setting,
    Weights,
    ignore,
)
from rlsched.agents.rollouts.backend import NO_WEIGHTS
from rlsched.agents.rollouts.job import Job
from rlsched.agents.rollouts.ray_backend import RayBackend
from rlsched.agents.rollouts.ray_connection import ray
from rlsched.agents.rollouts.ray_pool import Pool
from rlsched.agents.rollouts.ray_worker import Worker, pack
from rlsched.benchmarks.rollout_simulation import Costs, Simulation
from rlsched.benchmarks.rows import Row, all_in_turns, seconds
from rlsched.contract import Array
from rlsched.envs.tasks import quick
from rlsched.policy import PolicyInterface

ROUNDS = 2
SMALL, LARGE, DECISIONS, EPOCHS = 8, 32, 100, 6
"""Slots of a small and a large unit, decisions of each, epochs of an update."""

WORKERS = (16, 128, 1024)
UNITS = 4
"""Units per worker and iteration in the simulation of collecting alone."""

DEATHS = 1 / 3600 / 100
"""Workers lost, per worker and second: each once in 100 hours."""

HEAVY = 10
"""How much longer units take whose tasks are larger models on more data; nothing else about them changes."""

SETTING = Setting(quick(), PolicyInterface())


@dataclass(frozen=True)
class Blank:
    """A job that costs its worker nothing, with a result of a given size.

    Attributes:
        size: bytes.
    """

    size: int

    def run(self, setting: Setting, weights: Weights) -> Array:
        """Zeros."""
        return np.zeros(self.size, dtype=np.uint8)


def rows(rounds: int = ROUNDS) -> list[Row]:
    """The table, one worker and two timed `rounds` times; takes minutes.

    The rows that name a number of workers, but for the first one, are simulated. They give the share of the time
    that workers spend on units: with UNITS per worker and iteration where units are collected only, with one where
    the driver learns from them in between, or meanwhile ("overlapping").
    """
    weights = acting()
    with RayBackend(SETTING, 2, address="local") as two:
        table = _one_and_two(two, weights, rounds)
        results = {slots: unit(slots, 0).run(SETTING, weights) for slots in (SMALL, LARGE)}
        sizes = {slots: len(pack(result)) for slots, result in results.items()}
        costs = {slots: driver_costs(two, size) for slots, size in sizes.items()}
        look, look_each = looking_costs()
    update = update_costs(results[SMALL])
    durations = {SMALL: unit_times(SMALL, 8, weights), LARGE: unit_times(LARGE, 4, weights)}
    table += _sizes(weights, results)
    for slots in (SMALL, LARGE):
        give, take = costs[slots]
        mean = float(durations[slots].mean())
        learn = update * slots * DECISIONS
        name = f"units of {slots} slots"
        table += [
            Row(f"{name}: a worker's time", mean, "s", mean, 1.0),
            Row(f"{name}: driver's time to send one", give, "s", mean, give / mean),
            Row(f"{name}: driver's time to receive one", take, "s", mean, take / mean),
            Row(f"{name}: driver's time to learn from one", learn, "s", mean, learn / mean),
        ]
        alone = Costs(give, take, look, look_each)
        for times in (1, HEAVY) if slots == LARGE else (1,):
            heavy = name if times == 1 else f"{name}, tasks {times} times as heavy"
            for count in WORKERS:
                table += _simulated(f"{heavy}, {count} workers", count, times * durations[slots], alone, learn)
    return table


def unit(slots: int, number: int) -> RolloutUnit:
    """A unit with a seed of its own."""
    return RolloutUnit(2 * number, slots, DECISIONS)


def acting() -> Weights:
    """Fresh weights."""
    return _agent(_Given([])).weights()


def unit_times(slots: int, count: int, weights: Weights) -> Array:
    """(count,) CPU seconds of units: what they take on a core of their own."""
    times = []
    for number in range(count):
        start = time.process_time()
        unit(slots, number).run(SETTING, weights)
        times.append(time.process_time() - start)
    return np.array(times)


def driver_costs(backend: RayBackend, size: int, jobs: int = 200) -> tuple[float, float]:
    """CPU seconds of this process per job, to send it and to receive a result of `size` bytes."""
    sending = 0.0
    give = Pool.give

    def timed(self: Pool, worker: int, job: bytes, weights: Any) -> None:
        nonlocal sending
        start = time.process_time()
        give(self, worker, job, weights)
        sending += time.process_time() - start

    backend.run([Blank(size)] * 8)
    with unittest.mock.patch.object(Pool, "give", timed):
        start = time.process_time()
        backend.run([Blank(size)] * jobs)
        whole = time.process_time() - start
    return sending / jobs, (whole - sending) / jobs


def looking_costs() -> tuple[float, float]:
    """Seconds of `ray.wait`: fixed, and for each of those that it waits for."""
    nowhere: Any = ray.remote(Worker).options(num_cpus=1e6).remote([], 1, b"")
    counts = np.array(WORKERS)
    awaited = [nowhere.ready.remote() for _ in range(counts.max())]
    times = [
        min(seconds(functools.partial(ray.wait, awaited[:count], timeout=0)) for _ in range(20))
        for count in counts
    ]
    ray.kill(nowhere)
    each, fixed = np.polyfit(counts, times, 1)
    return max(float(fixed), 0.0), max(float(each), 0.0)


def update_costs(rollout: Rollout) -> float:
    """CPU seconds of PPO's update per decision."""
    agent = _agent(_Given([rollout]), rollout.rewards.shape)
    spent = 0.0
    update = SchedulePPO.train

    def timed(self: SchedulePPO) -> None:
        nonlocal spent
        start = time.process_time()
        update(self)
        spent = time.process_time() - start  # of the last one: the first is slower

    with unittest.mock.patch.object(SchedulePPO, "train", timed):
        agent.learn(2 * rollout.rewards.size, reset_num_timesteps=False)
    return spent / rollout.rewards.size


class _Given(Backend):
    """Gives the same results whatever is asked for."""

    def __init__(self, results: list[Any]) -> None:
        self._results = results

    def submit(self, jobs: Sequence[Job], weights: Weights = NO_WEIGHTS) -> Pending:
        """See `Backend`."""
        results = self._results

        class Kept(Pending):
            def results(self, done: Done = ignore) -> list[Any]:
                return results

        return Kept()

    def close(self) -> None:
        """See `Backend`."""


def _agent(backend: Backend, shape: tuple[int, ...] = (DECISIONS, SMALL)) -> SchedulePPO:
    plan = RolloutPlan(units=1, slots=shape[1], decisions=shape[0])
    return SchedulePPO(
        backend, plan, SETTING.tasks.num_buckets, 2, batch_size=400, n_epochs=EPOCHS, learning_rate=1e-5, seed=0
    )


def _one_and_two(two: RayBackend, weights: Weights, rounds: int) -> list[Row]:
    """Units per second by two workers and by one, with Ray, and by processes with nothing to do but the same.

    The latter is what the machine gives: cores share caches and memory, and often a clock. All units are the same
    one, so that no worker waits for a longer one at the end.
    """
    jobs = [unit(SMALL, 0)] * 4
    context = multiprocessing.get_context("spawn")
    with (
        RayBackend(SETTING, 1, num_cpus=0.0) as one,
        context.Pool(1, torch.set_num_threads, (1,)) as plain_one,
        context.Pool(2, torch.set_num_threads, (1,)) as plain_two,
    ):
        work = functools.partial(_run_plain, weights)
        works = [lambda by=by: by.run(jobs, weights) for by in (one, two)]
        works += [lambda by=by: by.map(work, jobs, 1) for by in (plain_one, plain_two)]
        one_ray, two_ray, one_plain, two_plain = all_in_turns(works, rounds)
    assert [r.rewards.sum() for r in two.run(jobs[:1], weights)] == [
        r.rewards.sum() for r in InProcess(SETTING).run(jobs[:1], weights)
    ]
    names = f"units of {SMALL} slots: 2 Ray workers against 1", "the same by plain processes, without Ray"
    pairs = (one_ray, two_ray), (one_plain, two_plain)
    return [
        Row(name, len(jobs) / after, "1/s", len(jobs) / before, before / after)
        for name, (before, after) in zip(names, pairs, strict=True)
    ]


def _run_plain(weights: Weights, job: RolloutUnit) -> float:
    return float(job.run(SETTING, weights).rewards.sum())


def _sizes(weights: Weights, results: dict[int, Rollout]) -> list[Row]:
    """Messages against the arrays in them."""
    arrays = sum(value.nbytes for value in weights.values())
    table = [_size("weights", len(pack(dict(weights))), arrays)]
    for slots, result in results.items():
        job = len(pack(unit(slots, 0)))
        arrays = sum(getattr(result, field.name).nbytes for field in fields(result))
        table += [
            _size(f"unit of {slots} slots", job, job),
            _size(f"result of {slots} slots", len(pack(result)), arrays),
        ]
    return table


def _size(name: str, message: int, content: int) -> Row:
    return Row(f"message: {name}", message / 1e3, "kB", content / 1e3, message / content)


def _simulated(name: str, workers: int, durations: Array, alone: Costs, learn: float) -> list[Row]:
    many, iterations, whole = UNITS * workers, 5, dataclasses.replace(alone, update=learn)
    collecting = Simulation(workers, durations, alone).run(iterations, many)
    failing = Simulation(workers, durations, alone, deaths=DEATHS).run(iterations, many)
    learning = Simulation(workers, durations, whole).run(iterations, workers)
    overlapping = Simulation(workers, durations, whole).run(iterations, workers, overlap=True)
    shares = {
        "driver busy while collecting": collecting.driver,
        "collecting": collecting.workers,
        "collecting, with losses": failing.workers,
        "with updates": learning.workers,
        "with updates, overlapping": overlapping.workers,
    }
    return [Row(f"{name}: {what}", share, "of the time", 1.0, share) for what, share in shares.items()]
