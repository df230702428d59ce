"""What people do without a policy: a schedule with a default learning rate, or one tuned on every task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlsched.agents.evaluation.outcome import draw_tasks
from rlsched.agents.open_loop import Plan, run_plans
from rlsched.agents.rollouts.job import Setting, Weights
from rlsched.contract import Array
from rlsched.controllers import Constant, Cosine, Linear
from rlsched.controllers.schedules import OpenLoop
from rlsched.envs.reward import relative_log_loss
from rlsched.envs.tasks import Task

SCHEDULES: dict[str, OpenLoop] = {"linear": Linear(), "cosine": Cosine(), "constant": Constant()}
FACTORS = tuple((10.0 ** np.arange(-1.5, 1.6, 0.5)).tolist())
"""Multiples of the family's sensible learning rate, seven over three decades, that are tried."""


@dataclass(frozen=True, eq=False)
class Baselines:
    """Scores of n tasks (see `Outcome.scores`) without a policy.

    Attributes:
        grid: (n, S, L) of every schedule of `SCHEDULES` at every one of `FACTORS`.
        tuned_linear: (n,) of linear decay at the learning rate that is the best of `grid` for the task, run again
            from another seed: seven runs to choose, and one that counts.
    """

    grid: Array
    tuned_linear: Array

    @property
    def best_default(self) -> tuple[str, float]:
        """The schedule and factor of the best mean score: chosen with hindsight, on the tasks it is judged by."""
        schedule, factor = np.unravel_index(np.argmin(self.grid.mean(axis=0)), self.grid.shape[1:])
        return list(SCHEDULES)[int(schedule)], FACTORS[int(factor)]

    @property
    def default(self) -> Array:
        """(n,) scores of the best single default."""
        schedule, factor = self.best_default
        scores: Array = self.grid[:, list(SCHEDULES).index(schedule), FACTORS.index(factor)]
        return scores

    @classmethod
    def join(cls, parts: Sequence[Baselines]) -> Baselines:
        """Of all tasks, in their order."""
        return cls(np.concatenate([p.grid for p in parts]), np.concatenate([p.tuned_linear for p in parts]))


@dataclass(frozen=True)
class BaselineUnit:
    """The baselines of the tasks of the `EvaluationUnit` with the same fields."""

    seed: int
    tasks: int

    def run(self, setting: Setting, weights: Weights) -> Baselines:
        """Their scores; `weights` play no part."""
        tasks, tuning, counting = draw_tasks(setting, self.seed, self.tasks)
        tasks = [task.with_decisions(1) for task in tasks]
        sensible = [setting.tasks.sensible_lr(task.config) for task in tasks]
        plans = [
            [Plan(schedule, lr * factor) for schedule in SCHEDULES.values() for factor in FACTORS]
            for lr in sensible
        ]
        grid = _scores(setting, tasks, tuning, plans).reshape(len(tasks), len(SCHEDULES), len(FACTORS))
        best = grid[:, list(SCHEDULES).index("linear")].argmin(axis=1)
        again = [[Plan(SCHEDULES["linear"], lr * FACTORS[at])] for lr, at in zip(sensible, best, strict=True)]
        return Baselines(grid, _scores(setting, tasks, counting, again)[:, 0])


def _scores(
    setting: Setting, tasks: Sequence[Task], seeds: Sequence[int], plans: Sequence[Sequence[Plan]]
) -> Array:
    """(n, P) scores of each task's P plans."""
    first, final = run_plans(setting, tasks, seeds, plans)
    return relative_log_loss(final, first, np.isfinite(final))
