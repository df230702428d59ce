"""Environment steps: a vector of stacked runs against one environment per process. One thread."""

from __future__ import annotations

import dataclasses
import functools
import time
import unittest.mock
from dataclasses import dataclass

import numpy as np

from rlsched.benchmarks.rows import Row, in_turns, seconds
from rlsched.contract import Array, Window
from rlsched.envs import TrainingScheduleEnv
from rlsched.envs.population import Population
from rlsched.envs.tasks import Digits, DigitsConfig, TaskConfig
from rlsched.envs.vector import PopulationVecEnv
from rlsched.policy import PolicyInterface

ROUNDS = 3


@dataclass(frozen=True)
class Fixed(Digits):
    """Digits tasks of one size: the same work for every environment. Data, seeds and learning rates differ."""

    features: int = 64
    units: int = 32
    layers: int = 2
    batch: int = 32
    decisions: int = 20
    steps: int = 250

    def sample(self, rng: np.random.Generator) -> DigitsConfig:
        """Settings of one task."""
        return dataclasses.replace(
            super().sample(rng), num_steps=self.steps, num_decisions=self.decisions, batch_size=self.batch,
            optimizer="sgd", base_lr=0.01, num_features=self.features, width=self.units, depth=self.layers,
            bucket_by="difficulty", probed=False, scorer="probe", activation="relu",
        )  # fmt: skip

    def sample_like(self, rng: np.random.Generator, first: TaskConfig) -> TaskConfig:
        """The same: all tasks are alike."""
        return self.sample(rng)


def episode(tasks: Fixed) -> None:
    """One episode of the single environment, its reset included."""
    env, zero, over = TrainingScheduleEnv(tasks), np.zeros(5, np.float32), False
    env.reset(seed=0)
    while not over:
        over = env.step(zero)[2]


def vector_round(env: PopulationVecEnv) -> None:
    """One episode in every slot, the resets included."""
    env.seed(0)
    env.reset()
    # The last step begins the next round, which belongs to the next call.
    for _ in range(env._slots._cores[0]._left - 1):
        env.step(np.zeros((env.num_envs, 5), np.float32))


def rows(rounds: int = ROUNDS) -> list[Row]:
    """The table, everything timed `rounds` times."""
    result = []
    small = Fixed(features=16, units=16, layers=1, batch=8, decisions=50, steps=100)
    for name, tasks in (("64-32-32-10 MLP, batch 32, 250 steps in 20 decisions", Fixed()),
                        ("16-16-10 MLP, batch 8, 100 steps in 50 decisions", small)):  # fmt: skip
        for runs in (64, 256):
            env = PopulationVecEnv(tasks, PolicyInterface(), runs, runs)
            before, after = in_turns(
                functools.partial(episode, tasks), functools.partial(vector_round, env), rounds
            )
            ours, theirs = runs * (tasks.decisions - 1) / after, tasks.decisions / before
            result.append(Row(f"environment steps: {name}, {runs} runs", ours, "1/s", theirs, ours / theirs))
        share = own_share(env)
        result.append(Row(f"all but inner training: {name}, {runs} runs", share, "of time", 0.1, share / 0.1))
    return result


def own_share(env: PopulationVecEnv) -> float:
    """Share of a round that is not spent in training steps: resets, validation, observation and decoding."""
    inner = 0.0
    advance = Population.advance

    def timed(self: Population, n_steps: Array, lr_scale: Array, bucket_weights: Array) -> Window:
        nonlocal inner
        start = time.perf_counter()
        try:
            return advance(self, n_steps, lr_scale, bucket_weights)
        finally:
            inner += time.perf_counter() - start

    with unittest.mock.patch.object(Population, "advance", timed):
        whole = seconds(lambda: vector_round(env))
    return 1.0 - inner / whole
