"""Returns of policies on fixed tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from gymnasium.utils import seeding

from rlsched.contract import Array
from rlsched.envs.episodes import Episodes
from rlsched.envs.population import Population
from rlsched.envs.tasks.task import TaskFamily
from rlsched.policy import PolicyInterface

Act = Callable[[Array], Array]
"""From observations (R, F + K * B) to actions (R, 1 + K)."""


def default_act(num_buckets: int) -> Act:
    """The zero action: linear decay over the natural mixture, the default that a policy has to beat."""
    return lambda observations: np.zeros((len(observations), 1 + num_buckets), dtype=np.float32)


def evaluation_seeds(seed: int, count: int) -> list[int]:
    """Seeds of `count` episodes that no training iteration uses: training's are even, these are odd."""
    drawn = np.random.SeedSequence([seed, 2**32 - 1]).generate_state(count)
    return [int(value) // 4 * 2 + 1 for value in drawn]


def episode_returns(
    act: Act,
    tasks: TaskFamily,
    seeds: Sequence[int],
    interface: PolicyInterface | None = None,
    unstackable: str = "refuse",
) -> Array:
    """(n,) undiscounted return, ln(L_0 / L_T), of the episode that a `TrainingScheduleEnv` plays with each seed.

    The episodes are computed together.
    """
    rngs = [seeding.np_random(seed)[0] for seed in seeds]
    drawn = [(tasks.sample(rng), int(rng.integers(2**31))) for rng in rngs]
    built = [tasks.build(config) for config, _ in drawn]
    population = Population(built, unstackable=unstackable)
    population.reset([run_seed for _, run_seed in drawn])
    episodes = Episodes(population, built, PolicyInterface() if interface is None else interface)
    seen, _ = episodes.begin()
    returns = np.zeros(len(seeds))
    while episodes.alive.any():
        going = episodes.alive
        seen, rewards, _, _ = episodes.step(np.asarray(act(seen), dtype=np.float64))
        returns += np.where(going, rewards, 0.0)
    return returns
