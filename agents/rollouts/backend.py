"""Where jobs are done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
import torch

from rlsched.agents.rollouts.job import Job, Setting, Weights

NO_WEIGHTS: Weights = MappingProxyType({})

Done = Callable[[int, Any], object]
"""Called with the number of a job and its result."""


def ignore(number: int, result: Any) -> None:
    """The `Done` that does nothing."""


class Pending(ABC):
    """Jobs on their way."""

    @abstractmethod
    def results(self, done: Done = ignore) -> list[Any]:
        """Wait for the results, in the order of the jobs; `done` is called after each, in any order."""


class Backend(ABC):
    """Does jobs. Results are the same by every backend, to the bit on machines of one kind."""

    @abstractmethod
    def submit(self, jobs: Sequence[Job], weights: Weights = NO_WEIGHTS) -> Pending:
        """Begin to do `jobs` with `weights`, which may change afterwards. One batch at a time."""

    @abstractmethod
    def close(self) -> None:
        """Let go of whatever does the jobs."""

    def run(self, jobs: Sequence[Job], weights: Weights = NO_WEIGHTS, done: Done = ignore) -> list[Any]:
        """The results of `jobs`, in their order."""
        return self.submit(jobs, weights).results(done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class InProcess(Backend):
    """Does jobs one after another in this process, on one thread: their tensors are too small for more."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def submit(self, jobs: Sequence[Job], weights: Weights = NO_WEIGHTS) -> Pending:
        kept = {name: np.array(value) for name, value in weights.items()}
        for value in kept.values():
            value.flags.writeable = False  # a job that changed them would change those after it
        return _Later(self._setting, jobs, kept)

    def close(self) -> None:
        pass


class _Later(Pending):
    """Jobs that are done when their results are asked for."""

    def __init__(self, setting: Setting, jobs: Sequence[Job], weights: Mapping[str, Any]) -> None:
        self._setting, self._jobs, self._weights = setting, jobs, weights

    def results(self, done: Done = ignore) -> list[Any]:
        torch.set_num_threads(1)
        found = []
        for number, job in enumerate(self._jobs):
            found.append(job.run(self._setting, self._weights))
            done(number, found[-1])
        return found
