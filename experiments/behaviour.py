"""What a policy does on tasks that it never trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlsched.agents import TrainConfig
from rlsched.agents.evaluation import (
    FLAWLESS,
    FLAWS,
    EvaluationUnit,
    Trajectory,
    Which,
    evaluation_seeds,
    join_outcomes,
)
from rlsched.agents.rollouts import Setting
from rlsched.contract import Array
from rlsched.envs.tasks import Natural, TaskConfig, TaskFamily
from rlsched.policy import Policy, PolicyInterface

GROUPS, GROUP_TASKS = 16, 8
PROGRESS = np.linspace(0.0, 0.98, 50)
"""Where behaviours are compared. At 1 the learning rate of linear decay is 0."""
MISJUDGED = 5.0
"""A base learning rate is about right if it is within this factor of the family's sensible one."""


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What was decided in n runs, at G moments between their start and end.

    Attributes:
        configs: (n,) tasks.
        log_base: (n,) log10 of the base learning rate over the sensible one.
        log_lr: (n, G) log10 of the learning rate over the sensible one; NaN after a run has diverged.
        weights: (n, G, K) of the buckets; the same.
    """

    configs: Sequence[TaskConfig]
    log_base: Array
    log_lr: Array
    weights: Array

    def kinds(self) -> dict[str, Array]:
        """Name -> (n,) which tasks are of a kind; a task with two flaws is of two kinds."""
        which: dict[str, Which] = {"all tasks": lambda config: True, "clean": FLAWLESS, **FLAWS}
        return {name: np.array([belongs(config) for config in self.configs]) for name, belongs in which.items()}

    def misjudgements(self) -> dict[str, Array]:
        """Name -> (n,) which base learning rates are too low, about right, too high."""
        edge = math.log10(MISJUDGED)
        low, high = self.log_base < -edge, self.log_base > edge
        return {"too low": low, "about right": ~low & ~high, "too high": high}

    def steered(self) -> Array:
        """(n,) which tasks have a curriculum."""
        return np.array([config.curriculum for config in self.configs])


def observe(policy: Policy, config: TrainConfig, tasks: TaskFamily) -> Behaviour:
    """Run `policy` on fixed tasks like those that selected it, in this process."""
    family = tasks if config.tasks.curriculum else Natural(tasks)
    setting = Setting(family, PolicyInterface(policy.metadata.action), config.tasks.unstackable)
    units = [EvaluationUnit(seed, GROUP_TASKS) for seed in evaluation_seeds(config.seed, GROUPS)]
    outcome = join_outcomes([unit.run(setting, policy.tensors) for unit in units])
    sensible = np.log10([family.sensible_lr(each) for each in outcome.configs])
    sampled = [sample(trajectory) for trajectory in outcome.trajectories]
    return Behaviour(
        outcome.configs,
        np.log10([each.base_lr for each in outcome.configs]) - sensible,
        np.stack([log_lr for log_lr, _ in sampled]) - sensible[:, None],
        np.stack([weights for _, weights in sampled]),
    )


def sample(trajectory: Trajectory) -> tuple[Array, Array]:
    """log10 of the learning rate (G,) and bucket weights (G, K) at `PROGRESS`.

    Between two decisions weights stay, and so does the ratio of the learning rate to linear decay.
    """
    index = np.searchsorted(trajectory.progress, PROGRESS + 1e-6, side="right") - 1
    ratio = trajectory.log_lr - np.log10(1.0 - trajectory.progress)
    log_lr, weights = ratio[index] + np.log10(1.0 - PROGRESS), trajectory.weights[index].astype(float)
    # Before the first decision is the opening, which the policy does not choose.
    log_lr[index < 0], weights[index < 0] = np.nan, np.nan
    return log_lr, weights
