"""Searches and baselines that many trainings have in common are done once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlsched.agents.evaluation import BaselineUnit
from rlsched.agents.imitation import SearchUnit
from rlsched.agents.rollouts import NO_WEIGHTS, Backend, Done, Job, Pending, Weights, ignore

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
        return _Joined(jobs, self._inner.submit(missing, weights), self._known)

    def close(self) -> None:
        self._inner.close()


class _Joined(Pending):
    """Results of which some are known."""

    def __init__(self, jobs: Sequence[Job], pending: Pending, known: Results) -> None:
        self._jobs, self._pending, self._known = jobs, pending, known

    def results(self, done: Done = ignore) -> list[Any]:
        together: list[Any] = [self._known.get(job) for job in self._jobs]
        where = [number for number, job in enumerate(self._jobs) if job not in self._known]
        for number in set(range(len(self._jobs))) - set(where):
            done(number, together[number])
        found = self._pending.results(lambda number, result: done(where[number], result))
        for number, result in zip(where, found, strict=True):
            together[number] = result
            if isinstance(self._jobs[number], SearchUnit | BaselineUnit):
                self._known[self._jobs[number]] = result
        return together
