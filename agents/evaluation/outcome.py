"""What a policy makes of tasks that nobody trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium.utils import seeding

from rlsched.agents.rollouts.job import Setting, Weights
from rlsched.contract import Array
from rlsched.envs.episodes import Episodes
from rlsched.envs.reward import relative_log_loss
from rlsched.envs.tasks import Task, TaskConfig
from rlsched.policy.network import forward


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What was decided in a run, at its D decisions.

    Attributes:
        progress: (D,) in [0, 1].
        log_lr: (D,) log10 of the learning rate.
        weights: (D, K) of the buckets.
    """

    progress: Array
    log_lr: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class Outcome:
    """How n runs ended.

    Attributes:
        configs: (n,) tasks.
        scores: (n,) ln(validation loss at the end / before training), clipped as the reward's; lower is better.
        trajectories: (n,) what was decided.
    """

    configs: Sequence[TaskConfig]
    scores: Array
    trajectories: Sequence[Trajectory]


def join_outcomes(outcomes: Sequence[Outcome]) -> Outcome:
    """All runs, in their order."""
    return Outcome(
        [config for outcome in outcomes for config in outcome.configs],
        np.concatenate([outcome.scores for outcome in outcomes]),
        [each for outcome in outcomes for each in outcome.trajectories],
    )


@dataclass(frozen=True)
class EvaluationUnit:
    """Runs under a policy, without exploration, on some tasks that are computed together.

    Attributes:
        seed: of the tasks and their runs; odd, as none of training's is: see `evaluation_seeds`.
        tasks: how many.
    """

    seed: int
    tasks: int

    def run(self, setting: Setting, weights: Weights) -> Outcome:
        """The outcome of the policy in `weights`; without any weights, of its default, the zero action."""
        tasks, _, seeds = draw_tasks(setting, self.seed, self.tasks)
        population = setting.population(tasks)
        population.reset(seeds)
        first = population.validation_loss()
        episodes = Episodes(population, tasks, setting.interface)
        whole = np.ones(len(tasks), dtype=bool)
        steps: list[list[tuple[float, float, Array]]] = [[] for _ in tasks]
        seen, _ = episodes.begin()
        while episodes.alive.any():
            alive, progress = np.flatnonzero(episodes.alive), seen[:, 0]
            actions = forward(weights, seen) if weights else np.zeros((len(tasks), 1 + setting.tasks.num_buckets))
            seen, _, over, infos = episodes.step(actions)
            for row in alive:
                whole[row] = not over[row] or infos[row]["step"] == tasks[row].config.num_steps
                lr = max(infos[row]["lr_scale"] * tasks[row].config.base_lr, 1e-30)
                steps[row].append((float(progress[row]), np.log10(lr), infos[row]["bucket_weights"]))
        final = population.validation_loss()
        scores = relative_log_loss(final, first, np.isfinite(final) & whole)
        trajectories = [Trajectory(*(np.array(part) for part in zip(*each, strict=True))) for each in steps]
        return Outcome([task.config for task in tasks], scores, trajectories)


def draw_tasks(setting: Setting, seed: int, count: int) -> tuple[list[Task], list[int], list[int]]:
    """Tasks that can be computed together, a seed for the tuning of each and one for the run that counts.

    All methods get the same ones for the same `seed`.
    """
    rng = seeding.np_random(seed)[0]
    first = setting.tasks.sample(rng)
    configs = [first] + [setting.tasks.sample_like(rng, first) for _ in range(count - 1)]
    seeds = rng.integers(2**31, size=(2, count)).tolist()
    return [setting.tasks.build(config) for config in configs], seeds[0], seeds[1]


def evaluation_seeds(seed: int, count: int, purpose: int = 0) -> list[int]:
    """Seeds of `count` units that no training uses: training's are even, these are odd.

    `purpose` tells apart those that select a policy (0) and those that report on it (1).
    """
    drawn = np.random.SeedSequence([seed, 2**32 - 1, purpose]).generate_state(count)
    return [int(value) // 4 * 2 + 1 for value in drawn]
