"""Searches and baselines that many trainings have in common are done once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rlsched.agents.evaluation import BaselineUnit
from rlsched.agents.imitation import SearchUnit
from rlsched.agents.rollouts import NO_WEIGHTS, Backend, Job, Pending, Weights

Results = dict[Any, Any]
"""What jobs gave that depend on nothing but themselves and the setting, by the job."""


class SharedResults(Backend):
    """A backend that does no search and no baseline twice.

    Args:
        inner: what does the jobs.
        known: results of trainings before, in the same setting; new ones are added.
    """

    def __init__(self, inner: Backend, known: Results) -> None:
        self._inner, self._known = inner, known

    def submit(self, jobs: Sequence[Job], weights: Weights = NO_WEIGHTS) -> Pending:
        missing = [job for job in jobs if job not in self._known]
        return _Joined(jobs, missing, self._inner.submit(missing, weights), self._known)

    def close(self) -> None:
        self._inner.close()


class _Joined(Pending):
    """Results of which some are known."""

    def __init__(self, jobs: Sequence[Job], missing: Sequence[Job], pending: Pending, known: Results) -> None:
        self._jobs, self._missing, self._pending, self._known = jobs, missing, pending, known

    def results(self, done: Callable[[], None] = lambda: None) -> list[Any]:
        for _ in range(len(self._jobs) - len(self._missing)):
            done()
        found = iter(self._pending.results(done))
        together = []
        for job in self._jobs:
            if job in self._known:
                together.append(self._known[job])
                continue
            together.append(next(found))
            if isinstance(job, SearchUnit | BaselineUnit):
                self._known[job] = together[-1]
        return together
