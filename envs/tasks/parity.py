"""Sparse parity: the product of a few unknown bits among many."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.envs.tasks.assemble import Pool, assemble, mislabel
from rlsched.envs.tasks.data import DataFamily, log_uniform
from rlsched.envs.tasks.losses import cross_entropy
from rlsched.envs.tasks.perceptron import PerceptronConfig, sample_perceptron
from rlsched.envs.tasks.task import Task, TaskConfig, expect


@dataclass(frozen=True, kw_only=True)
class ParityConfig(PerceptronConfig):
    """One parity task.

    Attributes:
        num_bits: inputs, each -1 or 1, in [10, 60].
        num_secret: bits whose product is the class, in [1, num_bits].
        pool_size: examples of which a fifth each is kept for validation and test, in [20, 2^num_bits].
    """

    num_bits: int = 20
    num_secret: int = 2
    pool_size: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("num_bits", self.num_bits, 10, 60)
        _check.integer("num_secret", self.num_secret, 1, self.num_bits)
        _check.integer("pool_size", self.pool_size, 20, 2**self.num_bits)


@dataclass(frozen=True)
class Parity(DataFamily):
    """Parity tasks, after Barak et al. 2022 (arXiv:2207.08799): long plateaus, then sudden learning.

    Learning rates are misjudged around larger ones than elsewhere, and there are more examples: with few of
    them a network can but learn them by heart. With three or four secret bits many runs do so anyway.
    """

    reference_lr: ClassVar[dict[str, float]] = {"sgd": 0.2, "adam": 0.03, "adamw": 0.03}
    most_examples: ClassVar[float] = 3000
    config_type: ClassVar = ParityConfig

    def sample(self, rng: np.random.Generator) -> ParityConfig:
        """Settings of one task."""
        common = self.common(rng)
        if self.epochs is None:
            common["num_examples"] = round(log_uniform(rng, 500, 3000))
        return ParityConfig(
            **common,
            **sample_perceptron(rng),
            init_scale=log_uniform(rng, 0.5, 2.0),
            num_bits=round(log_uniform(rng, 16, 40)),
            num_secret=int(rng.integers(2, 5)),
            pool_size=5000,
        )

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `ParityConfig`."""
        config = expect(config, ParityConfig)
        rng = np.random.default_rng(config.data_seed)
        # Numbers without repetition, whose bits are examples without repetition.
        numbers = rng.choice(2**config.num_bits, config.pool_size, replace=False)
        inputs = 2.0 * ((numbers[:, None] >> np.arange(config.num_bits)) & 1) - 1.0
        secret = rng.permutation(config.num_bits)[: config.num_secret]
        return assemble(
            config,
            Pool(inputs, parity(inputs, secret), num_classes=2, standardise=False),
            rng,
            make_model=config.network(config.num_bits, 2),
            loss=cross_entropy,
            drift=functools.partial(_another_secret, config),
        )


def parity(inputs: Array, secret: Array) -> Array:
    """(n,) classes: 1 where the product of the signs of the `secret` columns of (n, d) `inputs` is positive."""
    return ((inputs[:, secret] < 0).sum(axis=1) % 2 == 0).astype(np.int64)


def _another_secret(
    config: ParityConfig, inputs: Array, targets: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    secret = rng.permutation(config.num_bits)[: config.num_secret]
    return inputs, mislabel(parity(inputs, secret), 2, config.label_noise, rng)
