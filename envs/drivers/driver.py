"""The contract of methods that need more than one pass through a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rlsched.contract import Array
from rlsched.envs.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Driven:
    """What a driver made of a task.

    Attributes:
        steps: (W,) optimizer steps of the final run done at the end of each of its windows, increasing.
        lr: (W,) learning rate at each window's first step.
        validation: (W,) validation loss at each window's end, the last that of the result; inf if it failed.
        test: test loss of the result; inf if it failed.
        spent: optimizer steps of all runs together, those of searches, branches and replicas included.
    """

    steps: Array
    lr: Array
    validation: Array
    test: float
    spent: int


class Driver(Protocol):
    """A method that must save, branch, restart or average runs, and so cannot be a `Controller`.

    It is made of controllers, owns the runs it needs, and counts every step it spends.
    """

    def run(self, task: Task, seed: int) -> Driven:
        """Train on `task` from `seed`: the result follows from the two alone."""
        ...
