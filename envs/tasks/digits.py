"""Classification of scikit-learn's bundled digits, in many variations."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from rlsched import Buckets, _check, linear_probe_scores
from rlsched.envs.tasks.task import Task, TaskConfig, cross_entropy, dataset, make_optimizer, mlp, tensors

REFERENCE_LR = {"sgd": 0.1, "adam": 0.01, "adamw": 0.01}
"""Learning rates about right for these tasks; base learning rates are misjudged around them."""
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
DECISIONS = (10, 12, 15, 20, 30)
"""Divisors of 60, so that whole episodes fill a rollout of 60 decisions."""


@dataclass(frozen=True, kw_only=True)
class DigitsConfig(TaskConfig):
    """One digits task.

    Attributes:
        num_classes: digits in use, in [2, 10].
        num_features: dimensions kept of the randomly rotated 64 pixels, in [4, 64].
        num_examples: training examples before imbalance, in [50, 1000].
        label_noise: share of training labels drawn at random, in [0, 0.9].
        noisy_validation: whether validation labels are as noisy as the training labels.
        imbalance: examples of the rarest class relative to the commonest, in (0, 1].
        width: hidden units of each hidden layer of the MLP.
        depth: hidden layers, 0 for a linear model.
        activation: "relu", "tanh" or "gelu".
    """

    num_classes: int = 10
    num_features: int = 64
    num_examples: int = 800
    label_noise: float = 0.0
    noisy_validation: bool = False
    imbalance: float = 1.0
    width: int = 32
    depth: int = 1
    activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("num_classes", self.num_classes, 2, 10)
        _check.integer("num_features", self.num_features, 4, 64)
        _check.integer("num_examples", self.num_examples, 50, 1000)
        _check.real("label_noise", self.label_noise, 0.0, 0.9)
        _check.real("imbalance", self.imbalance, 0.01, 1.0)
        _check.integer("width", self.width, 1, 4096)
        _check.integer("depth", self.depth, 0, 8)
        _check.choice("activation", self.activation, ACTIVATIONS)


@dataclass(frozen=True)
class Digits:
    """The family of digits tasks.

    Every task has its own classes, rotation, data split, network and optimizer. Labels are noisy in half of
    the tasks (10 to 40 %), classes imbalanced in half, validation labels as noisy as the training labels in
    a quarter of those; the base learning rate is misjudged log-uniformly by up to `misjudged` either way.

    Attributes:
        num_buckets: buckets by difficulty.
        misjudged: largest factor between the base learning rate and a sensible one, at least 1.
        min_steps: fewest optimizer steps; their number is log-uniform.
        max_steps: most optimizer steps.
    """

    num_buckets: int = 4
    misjudged: float = 100.0
    min_steps: int = 60
    max_steps: int = 250

    def __post_init__(self) -> None:
        _check.integer("num_buckets", self.num_buckets, 1, 32)
        _check.real("misjudged", self.misjudged, 1.0, 1e4)
        _check.integer("min_steps", self.min_steps, 40)
        _check.integer("max_steps", self.max_steps, self.min_steps)

    def sample(self, rng: np.random.Generator) -> DigitsConfig:
        """Settings of one task."""
        optimizer = str(rng.choice(["sgd", "adam", "adamw"]))
        decades = math.log10(self.misjudged)
        return DigitsConfig(
            data_seed=int(rng.integers(2**31)),
            num_steps=round(_log_uniform(rng, self.min_steps, self.max_steps)),
            num_decisions=int(rng.choice(DECISIONS)),
            batch_size=2 ** int(rng.integers(3, 7)),
            optimizer=optimizer,
            base_lr=REFERENCE_LR[optimizer] * 10 ** rng.uniform(-decades, decades),
            curriculum=bool(rng.random() < 0.75),
            feedback=bool(rng.random() < 0.5),
            batch_size_known=bool(rng.random() < 0.75),
            num_buckets=self.num_buckets,
            num_classes=int(rng.integers(2, 11)),
            num_features=round(_log_uniform(rng, 8, 64)),
            num_examples=round(_log_uniform(rng, 80, 1000)),
            label_noise=float(rng.uniform(0.1, 0.4)) if rng.random() < 0.5 else 0.0,
            noisy_validation=bool(rng.random() < 0.25),
            imbalance=float(_log_uniform(rng, 0.1, 1.0)) if rng.random() < 0.5 else 1.0,
            width=round(_log_uniform(rng, 8, 64)),
            depth=int(rng.integers(0, 3)),
            activation=str(rng.choice(sorted(ACTIVATIONS))),
        )

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `DigitsConfig`."""
        if not isinstance(config, DigitsConfig):
            raise TypeError(f"config must be a DigitsConfig, got {type(config).__name__}.")
        rng = np.random.default_rng(config.data_seed)
        features, labels = _digits()
        classes = rng.permutation(10)[: config.num_classes]
        rows = rng.permutation(np.flatnonzero(np.isin(labels, classes)))
        rotation, _ = np.linalg.qr(rng.standard_normal((64, 64)))
        x = (features @ rotation[:, : config.num_features])[rows]
        y = np.searchsorted(np.sort(classes), labels[rows])

        held_out = len(rows) // 5
        validation, test, train = np.split(np.arange(len(rows)), [held_out, 2 * held_out])
        train = _imbalance(train[: config.num_examples], y, config, rng)
        mean, deviation = x[train].mean(axis=0), x[train].std(axis=0) + 1e-6
        x = np.clip((x - mean) / deviation, -6.0, 6.0)

        noisy = np.where(rng.random(len(y)) < config.label_noise, rng.integers(config.num_classes, size=len(y)), y)
        sizes = [config.num_features, *[config.width] * config.depth, config.num_classes]
        return Task(
            config=config,
            make_model=functools.partial(mlp, sizes, ACTIVATIONS[config.activation]),
            make_optimizer=functools.partial(make_optimizer, config),
            loss=cross_entropy,
            train=dataset(x[train], noisy[train]),
            validation=tensors(x[validation], (noisy if config.noisy_validation else y)[validation]),
            test=tensors(x[test], y[test]),
            buckets=Buckets.from_scores(linear_probe_scores(x[train], noisy[train]), config.num_buckets),
        )


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    return (features - features.mean(axis=0)) / 16.0, labels


def _imbalance(
    train: np.ndarray, labels: np.ndarray, config: DigitsConfig, rng: np.random.Generator
) -> np.ndarray:
    """Thin the classes geometrically, from all of the first to a share `imbalance` of the last."""
    if config.imbalance == 1.0:
        return train
    rank = rng.permutation(config.num_classes)[labels[train]] / (config.num_classes - 1)
    kept = train[rng.random(len(train)) < config.imbalance**rank]
    # A batch and every bucket must fit in what is left.
    return kept if len(kept) >= max(config.batch_size, config.num_buckets) else train


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
