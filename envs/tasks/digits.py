"""Classification of scikit-learn's bundled digits by multilayer perceptrons, in many variations."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.envs.tasks.assemble import Pool, assemble
from rlsched.envs.tasks.data import DataFamily, log_uniform
from rlsched.envs.tasks.losses import cross_entropy
from rlsched.envs.tasks.perceptron import PerceptronConfig, sample_perceptron
from rlsched.envs.tasks.task import Task, TaskConfig, expect

DIGITS = 1079
"""How many of the 1,797 are trained on: all but two fifths."""


@dataclass(frozen=True, kw_only=True)
class DigitsConfig(PerceptronConfig):
    """One digits task.

    Attributes:
        num_classes: digits in use, in [2, 10].
        num_features: dimensions kept of the randomly rotated 64 pixels, in [4, 64].
    """

    num_classes: int = 10
    num_features: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("num_classes", self.num_classes, 2, 10)
        _check.integer("num_features", self.num_features, 4, 64)


@dataclass(frozen=True)
class Digits(DataFamily):
    """Digits tasks: every one has its own classes, rotation, data split, network and optimizer.

    Batches are of 128 at most: two digits have some 215 training examples.
    """

    max_batch: int = 128

    most_examples: ClassVar[float] = DIGITS
    config_type: ClassVar = DigitsConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("max_batch", self.max_batch, 1, 128, "Two digits have some 215 training examples.")

    def sample(self, rng: np.random.Generator) -> DigitsConfig:
        """Settings of one task."""
        return DigitsConfig(
            **self.common(rng),
            num_classes=int(rng.integers(2, 11)),
            num_features=round(log_uniform(rng, 8, 64)),
            **sample_perceptron(rng, min_depth=0),
        )

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `DigitsConfig`."""
        config = expect(config, DigitsConfig)
        rng = np.random.default_rng(config.data_seed)
        pixels, labels = load_digits()
        classes = rng.permutation(10)[: config.num_classes]
        rows = np.flatnonzero(np.isin(labels, classes))
        rotation, _ = np.linalg.qr(rng.standard_normal((64, config.num_features)))
        targets = np.searchsorted(np.sort(classes), labels[rows])
        return assemble(
            config,
            Pool(pixels[rows] @ rotation, targets, num_classes=config.num_classes),
            rng,
            make_model=config.network(config.num_features, config.num_classes),
            loss=cross_entropy,
        )


@functools.cache
def load_digits() -> tuple[Array, Array]:
    """Centred pixels (1797, 64) of 8 x 8 images, and labels (1797,)."""
    import sklearn.datasets

    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    return (pixels - pixels.mean(axis=0)) / 16.0, labels
