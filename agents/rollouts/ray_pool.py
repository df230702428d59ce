"""Ray actors that do jobs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import ray


class Pool:
    """As many workers as wanted, each starting, idle or busy; one that is dropped is replaced by a new one.

    A number identifies each, and is not used again.

    Args:
        make: starts an actor of `Worker`; it may wait long for a place to run.
        count: how many are wanted.
    """

    def __init__(self, make: Callable[[], Any], count: int) -> None:
        self._make = make
        self._actors: dict[int, Any] = {}
        self._expected: dict[Any, int] = {}
        """The worker that each awaited answer comes from."""
        self._starting: set[int] = set()
        self._idle: deque[int] = deque()
        self._without_since = time.monotonic()
        self._next = 0
        for _ in range(count):
            self._start()

    @property
    def ready(self) -> int:
        """How many have a place and their setting."""
        return len(self._actors) - len(self._starting)

    @property
    def seconds_without(self) -> float:
        """For how long there has been none ready."""
        return 0.0 if self.ready else time.monotonic() - self._without_since

    def idle(self) -> list[int]:
        """Those that can be given a job."""
        return list(self._idle)

    def give(self, worker: int, job: bytes, weights: Any) -> None:
        """Let an idle worker begin a job."""
        self._idle.remove(worker)
        self._expected[self._actors[worker].do.remote(job, weights)] = worker

    def answers(self, timeout: float) -> list[tuple[int, Any]]:
        """Who has answered within `timeout` seconds, and the reference to what: the message of a job's result.

        Workers that have become ready are not among them, unless they failed to.
        """
        found = []
        for reference in self._answered(timeout):
            worker = self._expected.pop(reference)
            if worker in self._starting and self._has_started(worker, reference):
                continue
            found.append((worker, reference))
            if worker not in self._starting:
                self._idle.append(worker)
        return found

    def drop(self, worker: int) -> None:
        """Kill a worker if it lives, and start another in its stead."""
        self._forget(worker)
        self._start()
        if not self.ready:
            self._without_since = time.monotonic()

    def drop_busy(self) -> None:
        """The same for all that do a job."""
        for worker in set(self._expected.values()) - self._starting:
            self.drop(worker)

    def close(self) -> None:
        """Kill all."""
        for worker in list(self._actors):
            self._forget(worker)

    def _start(self) -> None:
        worker, self._next = self._next, self._next + 1
        self._actors[worker] = actor = self._make()
        self._starting.add(worker)
        self._expected[actor.ready.remote()] = worker

    def _answered(self, timeout: float) -> list[Any]:
        awaited = list(self._expected)
        if not awaited:
            return []
        first, _ = ray.wait(awaited, num_returns=1, timeout=timeout)
        # One sweep for all that have answered meanwhile: a call takes longer the more there are to wait for.
        return ray.wait(awaited, num_returns=len(awaited), timeout=0)[0] if first else []

    def _has_started(self, worker: int, reference: Any) -> bool:
        try:
            ray.get(reference)
        except ray.exceptions.RayError:
            return False
        self._starting.remove(worker)
        self._idle.append(worker)
        return True

    def _forget(self, worker: int) -> None:
        ray.kill(self._actors.pop(worker), no_restart=True)
        self._starting.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        self._expected = {reference: other for reference, other in self._expected.items() if other != worker}
