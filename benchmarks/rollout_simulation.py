"""What many workers would give: the rules of the Ray backend, with measured times, in simulated time."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import numpy as np

from rlsched.agents.rollouts.ray_dispatch import Dispatch, Limits
from rlsched.contract import Array

JOIN = 10.0
"""Seconds from the loss of a worker until its successor is ready."""


@dataclass(frozen=True)
class Costs:
    """Seconds of the driver's time, all of it in one thread.

    Attributes:
        give: to send a job.
        take: to receive a result.
        look: to ask Ray who has answered,
        look_each: and this more for each worker at work.
        update: to learn from a unit.
    """

    give: float
    take: float
    look: float
    look_each: float
    update: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """Shares of the time that a training takes.

    Attributes:
        workers: mean share of their time that workers spend on units that are used.
        driver: share of its time that the driver is busy.
    """

    workers: float
    driver: float


class Simulation:
    """A training: units are collected, and learned from.

    Args:
        workers: how many.
        durations: (n,) seconds of units, from which each is drawn.
        costs: of the driver.
        seed: of the draws.
        deaths: workers lost per worker and second.
    """

    def __init__(self, workers: int, durations: Array, costs: Costs, seed: int = 0, deaths: float = 0.0) -> None:
        self._count, self._durations, self._costs, self._deaths = workers, durations, costs, deaths
        self._rng = np.random.default_rng(seed)
        self._now = self._driver = self._useful = 0.0
        self._idle = list(range(workers))
        self._numbers = itertools.count(workers)
        self._events: list[tuple[float, int, str, float]] = []
        """When, which worker, what ("done", "lost" or "joined"), and the seconds of its unit."""

    def run(self, iterations: int, units: int, overlap: bool = False) -> Outcome:
        """Iterations of `units` units, collected while the driver learns from those before if `overlap`."""
        pending = self._submit(units)
        for _ in range(iterations):
            self._complete(pending)
            if overlap:
                pending = self._submit(units)
            self._spend(units * self._costs.update)
            if not overlap:
                pending = self._submit(units)
        return Outcome(self._useful / (self._count * self._now), self._driver / self._now)

    def _submit(self, units: int) -> Dispatch:
        dispatch = Dispatch(range(units), Limits(deadline=np.inf, max_failures=units, max_deaths=units))
        self._deal(dispatch)
        return dispatch

    def _complete(self, dispatch: Dispatch) -> None:
        while not dispatch.over:
            self._deal(dispatch)
            self._now = max(self._now, self._events[0][0])
            self._spend(2 * (self._costs.look + self._costs.look_each * len(self._events)))
            due = self._now
            while self._events and self._events[0][0] <= due:
                self._take(dispatch, *heapq.heappop(self._events)[1:])

    def _deal(self, dispatch: Dispatch) -> None:
        while self._idle:
            worker = self._idle.pop()
            if dispatch.give(worker, self._now) is None:
                self._idle.append(worker)
                return
            self._spend(self._costs.give)
            seconds = float(self._rng.choice(self._durations))
            alive = self._rng.exponential(1.0 / self._deaths) if self._deaths else np.inf
            what = "done" if seconds <= alive else "lost"
            heapq.heappush(self._events, (self._now + min(seconds, alive), worker, what, seconds))

    def _take(self, dispatch: Dispatch, worker: int, what: str, seconds: float) -> None:
        if what == "lost":
            dispatch.lose(worker, "simulated")
            heapq.heappush(self._events, (self._now + JOIN, next(self._numbers), "joined", 0.0))
            return
        if what == "done":
            self._spend(self._costs.take)
            self._useful += seconds
            dispatch.finish(worker)
        self._idle.append(worker)

    def _spend(self, seconds: float) -> None:
        self._now += seconds
        self._driver += seconds
