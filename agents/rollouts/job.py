"""Jobs: pieces of work whose results depend on nothing but themselves, wherever they are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rlsched.contract import Array
from rlsched.envs.population import Population
from rlsched.envs.tasks.task import Task, TaskFamily
from rlsched.policy import PolicyInterface

Weights = Mapping[str, Array]
"""The policy that acts in a job: the tensors of a policy file, and `log_std` (1 + K,), its exploration."""


@dataclass(frozen=True)
class Setting:
    """What all jobs of a training have in common. Plain and picklable.

    Attributes:
        tasks: the family that tasks are drawn from.
        interface: observation and action decoding.
        unstackable: what to do about tasks that a `Population` cannot stack: "refuse" or "eager".
        device: where stacked rows are computed.
    """

    tasks: TaskFamily
    interface: PolicyInterface
    unstackable: str = "refuse"
    device: str = "cpu"

    def population(self, tasks: list[Task]) -> Population:
        """The engine of runs of `tasks`."""
        return Population(tasks, unstackable=self.unstackable, device=self.device)


class Job(Protocol):
    """A piece of work. Plain and picklable; it holds the seed of every random choice in it."""

    def run(self, setting: Setting, weights: Weights) -> Any:
        """The result: arrays and plain values, the same wherever and however often the job is done."""
        ...
