"""Families of tasks for tests: small, and each with something that is known of it."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlsched.contract import Array
from rlsched.envs.tasks import Digits, DigitsConfig, Quadratics, Task, TaskConfig, TaskFamily
from rlsched.envs.tasks.quadratics import QuadraticsConfig

TINY = Digits(min_steps=14, max_steps=20, max_batch=16)
"""Every run takes ten decisions."""


@dataclass(frozen=True)
class Gentle(Digits):
    """Learning rates short of chaos, so that two engines stay together to the end. They lie close together."""

    min_steps: int = 14
    max_steps: int = 20
    max_batch: int = 16

    def sample(self, rng: np.random.Generator) -> DigitsConfig:
        config = super().sample(rng)
        return dataclasses.replace(config, base_lr=0.002 * config.base_lr**0.1)


@dataclass(frozen=True)
class Explosive(Digits):
    """Every other task diverges in its opening. Runs take twelve decisions, or what their round has left."""

    min_steps: int = 30
    max_steps: int = 40
    max_batch: int = 16

    def sample(self, rng: np.random.Generator) -> DigitsConfig:
        config = super().sample(rng)
        base_lr = 1e38 if rng.random() < 0.5 else 0.01
        return dataclasses.replace(config, optimizer="sgd", base_lr=base_lr, num_decisions=12)


@dataclass(frozen=True)
class Touchy(Quadratics):
    """Runs that stay finite if the learning rate is lowered, and do not if it is raised."""

    def sample(self, rng: np.random.Generator) -> QuadraticsConfig:
        config = super().sample(rng)
        return dataclasses.replace(config, base_lr=300.0, num_steps=40, num_decisions=10)


@dataclass(frozen=True)
class TooLow(Digits):
    """Digits whose base learning rate is a hundred times too low: to be raised, there and nowhere else."""

    min_steps: int = 25
    max_steps: int = 30
    max_batch: int = 32

    def sample(self, rng: np.random.Generator) -> DigitsConfig:
        config = super().sample(rng)
        return dataclasses.replace(
            config, base_lr=1e-4, optimizer="adam", label_noise=0.0, noisy_validation=False, depth=1, drift=0.0,
            num_decisions=10,
        )  # fmt: skip


@dataclass
class Recorded(TaskFamily):
    """The tasks of `family`; `built` are the settings of those that were built."""

    family: TaskFamily
    built: list[TaskConfig] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.num_buckets = self.family.num_buckets

    def sample(self, rng: np.random.Generator) -> TaskConfig:
        return self.family.sample(rng)

    def sample_like(self, rng: np.random.Generator, first: TaskConfig) -> TaskConfig:
        return self.family.sample_like(rng, first)

    def sensible_lr(self, config: TaskConfig) -> float:
        return self.family.sensible_lr(config)

    def builds(self, config: TaskConfig) -> bool:
        return self.family.builds(config)

    def build(self, config: TaskConfig) -> Task:
        self.built.append(config)
        return self.family.build(config)


def exploring(tensors: Any, log_std: Any = -1.0, num_buckets: int = 4) -> dict[str, Array]:
    """Weights for jobs, from a policy file's tensors."""
    return {**tensors, "log_std": np.full(1 + num_buckets, log_std, dtype=np.float32)}
