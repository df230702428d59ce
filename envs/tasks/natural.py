"""A family's tasks without a curriculum."""

from __future__ import annotations

import dataclasses

import numpy as np

from rlsched.envs.tasks.task import Task, TaskConfig, TaskFamily


class Natural(TaskFamily):
    """The tasks of `family`, all over their natural mixture: only the learning rate is to be scheduled."""

    def __init__(self, family: TaskFamily) -> None:
        self.family = family
        self.num_buckets = family.num_buckets

    def sample(self, rng: np.random.Generator) -> TaskConfig:
        """Settings of one task of the family."""
        return dataclasses.replace(self.family.sample(rng), curriculum=False)

    def sample_like(self, rng: np.random.Generator, first: TaskConfig) -> TaskConfig:
        """See `TaskFamily`."""
        return dataclasses.replace(self.family.sample_like(rng, first), curriculum=False)

    def build(self, config: TaskConfig) -> Task:
        """The family's task."""
        return self.family.build(config)

    def builds(self, config: TaskConfig) -> bool:
        """Whether the family does."""
        return self.family.builds(config)

    def sensible_lr(self, config: TaskConfig) -> float:
        """The family's."""
        return self.family.sensible_lr(config)

    def __repr__(self) -> str:
        return f"Natural({self.family!r})"
