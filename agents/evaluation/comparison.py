"""A policy beside the baselines, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlsched.agents.evaluation.baselines import Baselines, BaselineUnit
from rlsched.agents.evaluation.kinds import Which
from rlsched.agents.evaluation.outcome import EvaluationUnit, Outcome, join_outcomes
from rlsched.agents.rollouts import Backend, Done, Weights, ignore
from rlsched.contract import Array

RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """Mean of score differences; below zero the policy is better.

    Attributes:
        mean: in nats of validation loss.
        low: of the 95 % interval.
        high: of it.
        worse: share of the tasks on which the policy is worse by more than 0.05.
        worst: the largest difference.
        tasks: how many.
    """

    mean: float
    low: float
    high: float
    worse: float
    worst: float
    tasks: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores of a policy and of the baselines on the same n tasks.

    Attributes:
        outcome: of the policy.
        baselines: of the tasks.
        groups: (n,) number of the unit that a task was computed in: its tasks have much in common.
    """

    outcome: Outcome
    baselines: Baselines
    groups: Array

    @classmethod
    def measure(
        cls,
        backend: Backend,
        weights: Weights,
        units: Sequence[EvaluationUnit],
        baselines: Baselines | None = None,
        done: Done = ignore,
    ) -> Comparison:
        """Run the policy in `weights` on the tasks of `units`, and the baselines unless they are given."""
        if baselines is None:
            found = backend.run([BaselineUnit(unit.seed, unit.tasks) for unit in units], done=done)
            baselines = Baselines.join(found)
        outcome = join_outcomes(backend.run(list(units), weights, done))
        return cls(outcome, baselines, np.repeat(np.arange(len(units)), [unit.tasks for unit in units]))

    def over(self, scores: Array, which: Which = lambda config: True) -> Difference | None:
        """How far the policy is ahead (negative) of `scores` (n,) on the tasks `which` picks; None if on none.

        The interval is a bootstrap over units, not tasks: those of a unit are alike.
        """
        chosen = np.array([which(config) for config in self.outcome.configs])
        if not chosen.any():
            return None
        difference, groups = (self.outcome.scores - scores)[chosen], self.groups[chosen]
        sums = np.bincount(groups, weights=difference, minlength=self.groups.max() + 1)
        counts = np.bincount(groups, minlength=self.groups.max() + 1)
        present = np.flatnonzero(counts)
        drawn = np.random.default_rng(0).choice(present, (RESAMPLES, len(present)))
        means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        return Difference(
            mean=float(difference.mean()),
            low=float(low),
            high=float(high),
            worse=float((difference > 0.05).mean()),
            worst=float(difference.max()),
            tasks=int(chosen.sum()),
        )
