"""Returns of policies on fixed tasks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlsched.contract import Array
from rlsched.envs.training_schedule import TrainingScheduleEnv

Act = Callable[[Array], Array]
"""From an observation (1, F + K * B) to an action (1, 1 + K)."""


def default_act(num_buckets: int) -> Act:
    """The zero action: linear decay over the natural mixture, the default that a policy has to beat."""
    zero = np.zeros((1, 1 + num_buckets), dtype=np.float32)
    return lambda observation: zero


def evaluation_seeds(seed: int, count: int) -> list[int]:
    """Seeds of `count` episodes that no training iteration uses: training's are even, these are odd."""
    drawn = np.random.SeedSequence([seed, 2**32 - 1]).generate_state(count)
    return [int(value) // 4 * 2 + 1 for value in drawn]


def episode_returns(act: Act, env: TrainingScheduleEnv, seeds: list[int]) -> Array:
    """(n,) undiscounted return, ln(L_0 / L_T), of the episode of each seed."""
    return np.array([_episode(act, env, seed) for seed in seeds])


def _episode(act: Act, env: TrainingScheduleEnv, seed: int) -> float:
    observation, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        observation, reward, over, _, _ = env.step(act(observation[None])[0])
        total += reward
    return total
