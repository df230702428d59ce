"""What a good schedule of a task would have been: a search over learning rates, then over curricula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium.utils import seeding

from rlsched.agents.imitation.followed import POINTS, follow
from rlsched.agents.open_loop import Plan, run_plans
from rlsched.agents.rollouts.job import Setting, Weights
from rlsched.contract import Array
from rlsched.controllers import Linear
from rlsched.controllers.curriculum.fixed import curricula
from rlsched.envs.tasks import Task, TaskConfig, TaskFamily

GRID = tuple(np.arange(-2.0, 2.01, 0.5).tolist())
"""Decades about a sensible learning rate at which linear decay is tried."""
WORST = 8.0
"""Nats beyond which one failure is as bad as another."""
DECISIONS = 20
"""In how many stretches a curriculum is tried, and online buckets are renewed, at most."""
SHARPNESS = 0.05
"""Nats of validation loss that make a curriculum e times as likely to be the one to imitate."""


@dataclass(frozen=True, eq=False)
class TunedGroup:
    """What the search found for n tasks that can be computed together.

    Attributes:
        seed: the tasks are those of `draw_group(tasks, seed, n)`.
        log_lr: (n,) log10 of the base learning rate at which linear decay ends at the lowest validation loss.
        regret: (n, G) by how much ln(validation loss) is higher at each point of `GRID` than at the best, at most
            `WORST`.
        curricula: (n, C + F) how likely each of `curricula(K)`, and then of F that follow the run, is the best at
            that learning rate.
        followed: (n, F, POINTS, K) bucket logits of the latter, see `followed.follow`.
    """

    seed: int
    log_lr: Array
    regret: Array
    curricula: Array
    followed: Array


def draw_group(tasks: TaskFamily, seed: int, count: int) -> tuple[list[TaskConfig], list[int]]:
    """Settings of `count` tasks that can be computed together, and a seed for the runs of each."""
    rng = seeding.np_random(seed)[0]
    first = tasks.sample(rng)
    configs = [first] + [tasks.sample_like(rng, first) for _ in range(count - 1)]
    return configs, rng.integers(2**31, size=count).tolist()


@dataclass(frozen=True)
class SearchUnit:
    """Tunes linear decay and a curriculum for some tasks that can be computed together.

    Each task costs a run for every learning rate of `GRID` and, if it has a curriculum, for every curriculum.

    Attributes:
        seed: of the tasks and their runs; even, as all of training's.
        tasks: how many.
        buckets: whether to search for curricula too.
        followed: names of curricula that follow the run, to be tried beside the fixed ones; see `followed`.
    """

    seed: int
    tasks: int
    buckets: bool = True
    followed: tuple[str, ...] = ()

    def run(self, setting: Setting, weights: Weights) -> TunedGroup:
        """What was found; `weights` play no part."""
        configs, seeds = draw_group(setting.tasks, self.seed, self.tasks)
        tasks = [setting.tasks.build(config) for config in configs]
        log_lr = np.array([np.log10(setting.tasks.sensible_lr(config)) for config in configs])

        quick = [task.with_decisions(1) for task in tasks]
        plans = [[Plan(Linear(), 10.0 ** (lr + step)) for step in GRID] for lr in log_lr]
        losses = _final_losses(setting, quick, seeds, plans)
        log_lr += np.array([best_step(np.log(row)) for row in losses])
        regret = np.minimum(np.log(losses) - np.log(losses).min(axis=1, keepdims=True), WORST)

        choices = curricula(setting.tasks.num_buckets)
        chosen = np.zeros((self.tasks, len(choices) + len(self.followed)))
        chosen[:, 0] = 1.0
        paths = np.zeros((self.tasks, len(self.followed), POINTS, setting.tasks.num_buckets))
        steered = [row for row, config in enumerate(configs) if config.curriculum and self.buckets]
        if steered and len(choices) > 1:
            some, same = [tasks[row].with_decisions(DECISIONS) for row in steered], [seeds[row] for row in steered]
            plans = [[Plan(Linear(), 10.0 ** log_lr[row], choice) for choice in choices] for row in steered]
            found = [_final_losses(setting, some, same, plans)]
            tuned = [task.with_base_lr(10.0 ** log_lr[row]) for row, task in zip(steered, some, strict=True)]
            for index, name in enumerate(self.followed):
                final, paths[steered, index] = follow(setting, tuned, same, name)
                found.append(_finite(final)[:, None])
            losses = np.concatenate(found, axis=1)
            behind = np.log(losses) - np.log(losses).min(axis=1, keepdims=True)
            likely = np.exp(-behind / SHARPNESS)
            chosen[steered] = likely / likely.sum(axis=1, keepdims=True)
        return TunedGroup(self.seed, log_lr, regret, chosen, paths)


def best_step(log_losses: Array) -> float:
    """Decades from the middle of `GRID` to the minimum of a parabola through the lowest point and its neighbours.

    >>> round(best_step((np.array(GRID) - 0.2) ** 2), 6)
    0.2
    """
    lowest = int(np.argmin(log_losses))
    if lowest in (0, len(GRID) - 1):
        return GRID[lowest]
    # A neighbour that diverged says no more than that it is worse.
    left, middle, right = np.minimum(log_losses[lowest - 1 : lowest + 2], log_losses[lowest] + 3.0)
    curvature = left - 2.0 * middle + right
    shift = 0.5 * (left - right) / curvature if curvature > 1e-9 else 0.0
    return float(GRID[lowest] + shift * (GRID[1] - GRID[0]))


def _final_losses(
    setting: Setting, tasks: Sequence[Task], seeds: Sequence[int], plans: Sequence[Sequence[Plan]]
) -> Array:
    """(n, P) of `run_plans`."""
    return _finite(run_plans(setting, tasks, seeds, plans)[1])


def _finite(losses: Array) -> Array:
    """`losses` in a range whose logarithms are finite."""
    return np.clip(losses, 1e-12, 1e12)
