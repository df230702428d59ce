"""Which worker does which job. Knows neither Ray nor the clock, so that it can be tested and simulated."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rlsched.agents.rollouts.errors import LostJobError, WorkerError

TRIES = 2
"""How often a job may raise: once may be the machine's fault, twice is the job's."""


@dataclass(frozen=True)
class Limits:
    """When to give up.

    Attributes:
        deadline: seconds from the start of a job until its worker counts as hung.
        max_failures: how often a job may lose its worker.
        max_deaths: how many workers may be lost one after another without a job done in between.
    """

    deadline: float = 600.0
    max_failures: int = 3
    max_deaths: int = 12


class Dispatch:
    """One batch of jobs, each waiting, running on a worker, or done.

    Workers are numbers that the caller chooses; a worker that was lost or failed does not come back under its
    number. Time is passed in, in seconds.
    """

    def __init__(self, jobs: Sequence[object], limits: Limits) -> None:
        self._jobs, self._limits = jobs, limits
        self._waiting = deque(range(len(jobs)))
        self._running: dict[int, tuple[int, float]] = {}
        self._left = len(jobs)
        self._losses: dict[int, list[str]] = {}
        self._raised: dict[int, int] = {}
        self._deaths = 0

    @property
    def over(self) -> bool:
        """Whether all jobs are done."""
        return self._left == 0

    def give(self, worker: int, now: float) -> int | None:
        """The job that `worker`, which is idle, begins now; None if none waits."""
        if not self._waiting:
            return None
        job = self._waiting.popleft()
        self._running[worker] = job, now + self._limits.deadline
        return job

    def finish(self, worker: int) -> int:
        """The job that `worker` has done."""
        job, _ = self._running.pop(worker)
        self._left -= 1
        self._deaths = 0
        return job

    def lose(self, worker: int, reason: str) -> None:
        """`worker` is gone, with its job if it had one, which is done again before those that wait.

        Raises:
            LostJobError: that was once too often.
        """
        self._deaths += 1
        if worker in self._running:
            job, _ = self._running.pop(worker)
            self._waiting.appendleft(job)
            reasons = self._losses.setdefault(job, [])
            reasons.append(reason)
            if len(reasons) >= self._limits.max_failures:
                raise LostJobError(
                    f"{_short(self._jobs[job])} lost its worker {len(reasons)} times: {_listed(reasons)}.\n"
                    "If the workers die, look for memory running out on their machines and ask for fewer workers "
                    "per machine or smaller units; if they are late, raise the deadline."
                )
        if self._deaths >= self._limits.max_deaths:
            raise LostJobError(
                f"{self._deaths} workers were lost one after another without a job done in between, the last one "
                f"thus: {reason}.\nLook at the workers' machines: memory, disk, versions of Python and packages."
            )

    def fail(self, worker: int, trace: str, cause: BaseException | None) -> None:
        """The job of `worker` raised; it is tried once more, by another worker: give up this one.

        Args:
            worker: which.
            trace: its own traceback, as text.
            cause: what was raised, where it can be had.

        Raises:
            WorkerError: it has raised before.
        """
        job, _ = self._running.pop(worker)
        self._raised[job] = self._raised.get(job, 0) + 1
        if self._raised[job] >= TRIES:
            raise WorkerError(
                f"{_short(self._jobs[job])} raised an exception, on two workers in turn. To debug it, train "
                f"without workers; if a module is missing, see docs/cluster.md. The worker's traceback:\n\n{trace}"
            ) from cause
        self._waiting.appendleft(job)

    def late(self, now: float) -> list[int]:
        """The workers whose jobs should be done by now."""
        return [worker for worker, (_, deadline) in self._running.items() if deadline <= now]

    def patience(self, now: float) -> float:
        """Seconds until some worker is late; infinite if none is at work."""
        return max(0.0, min((deadline for _, deadline in self._running.values()), default=math.inf) - now)


def _short(job: object) -> str:
    text = repr(job)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _listed(reasons: Sequence[str]) -> str:
    return "; ".join(f"({number}) {reason}" for number, reason in enumerate(reasons, 1))
