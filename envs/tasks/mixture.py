"""Several families as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlsched import _check
from rlsched.envs.tasks.task import Task, TaskConfig, TaskFamily


class Mixture(TaskFamily):
    """Draws a family, then a task of it.

    Args:
        families: at least one, all with the same number of buckets.
        weights: (F,) positive; families are drawn in proportion to them. Default: all alike.

    Raises:
        TypeError, ValueError: naming the argument and the remedy.
    """

    def __init__(self, families: Sequence[TaskFamily], weights: Sequence[float] | None = None) -> None:
        if not families:
            raise ValueError("families must hold at least one family, got none.")
        for family in families:
            if not isinstance(family, TaskFamily):
                raise TypeError(f"families must hold instances of TaskFamily, got {family!r}.")
        counts = [family.num_buckets for family in families]
        if len(set(counts)) > 1:
            raise ValueError(f"families must all have the same num_buckets, got {counts}: pass it to each.")
        for family in families:
            config = family.sample(np.random.default_rng(0))
            if sum(other.builds(config) for other in families) != 1:
                raise ValueError(
                    f"families must differ in the type of their settings, two have {type(config).__name__}: "
                    "derive a class of its own for one of them, or give functions names of their own."
                )
        shares = _check.vector("weights", [1.0] * len(families) if weights is None else list(weights))
        if len(shares) != len(families) or (shares <= 0).any():
            raise ValueError(f"weights must be one positive number for each of {len(families)} families.")
        self.families = tuple(families)
        self.weights = tuple((shares / shares.sum()).tolist())
        self.num_buckets = counts[0]

    def sample(self, rng: np.random.Generator) -> TaskConfig:
        """Settings of one task of one family."""
        return self._draw(rng).sample(rng)

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, by the first family whose it is."""
        return self._family_of(config).build(config)

    def builds(self, config: TaskConfig) -> bool:
        """Whether one of the families builds it."""
        return any(family.builds(config) for family in self.families)

    def sample_like(self, rng: np.random.Generator, first: TaskConfig) -> TaskConfig:
        """See `TaskFamily`: a task of the family of `first`."""
        # The family is drawn all the same: the generator of `first` itself then gives `first` again.
        self._draw(rng)
        return self._family_of(first).sample_like(rng, first)

    def sensible_lr(self, config: TaskConfig) -> float:
        """See `TaskFamily`: that of the family of `config`."""
        return self._family_of(config).sensible_lr(config)

    def _draw(self, rng: np.random.Generator) -> TaskFamily:
        return self.families[rng.choice(len(self.families), p=self.weights)]

    def _family_of(self, config: TaskConfig) -> TaskFamily:
        for family in self.families:
            if family.builds(config):
                return family
        names = ", ".join(type(family).__name__ for family in self.families)
        raise TypeError(f"config must be of one of the families {names}, got {type(config).__name__}.")

    def __repr__(self) -> str:
        return f"Mixture({list(self.families)!r}, weights={list(self.weights)!r})"
