"""Classification of scikit-learn's bundled tabular sets."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from rlsched import Buckets, _check, linear_probe_scores
from rlsched.envs.tasks.task import Task, TaskConfig, cross_entropy, dataset, make_optimizer, mlp, tensors


@dataclass(frozen=True, kw_only=True)
class TabularConfig(TaskConfig):
    """One tabular task.

    Attributes:
        source: "wine", "breast_cancer" or "iris".
        label_noise: share of training labels drawn at random, in [0, 0.9]; validation and test are clean.
        width: hidden units of the two-layer MLP.
    """

    source: str
    label_noise: float = 0.0
    width: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice("source", self.source, _LOADERS)
        _check.real("label_noise", self.label_noise, 0.0, 0.9)
        _check.integer("width", self.width, 1, 4096)


@dataclass(frozen=True)
class Tabular:
    """The family of tabular tasks: one of the three sets, optimizer, batch size and horizon at random."""

    num_buckets: int = 4

    def sample(self, rng: np.random.Generator) -> TabularConfig:
        """Settings of one task."""
        return TabularConfig(
            data_seed=int(rng.integers(2**31)),
            num_steps=int(rng.integers(100, 301)),
            num_decisions=20,
            batch_size=2 ** int(rng.integers(3, 6)),
            optimizer=str(rng.choice(["sgd", "adam", "adamw"])),
            base_lr=float(10 ** rng.uniform(-4, 0)),
            num_buckets=self.num_buckets,
            source=str(rng.choice(sorted(_LOADERS))),
            label_noise=float(rng.choice([0.0, 0.2])),
        )

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `TabularConfig`: 60 % training, 20 % validation, 20 % test."""
        if not isinstance(config, TabularConfig):
            raise TypeError(f"config must be a TabularConfig, got {type(config).__name__}.")
        rng = np.random.default_rng(config.data_seed)
        features, labels = _LOADERS[config.source]()
        order = rng.permutation(len(labels))
        held_out = len(order) // 5
        validation, test, train = np.split(order, [held_out, 2 * held_out])
        mean, deviation = features[train].mean(axis=0), features[train].std(axis=0) + 1e-6
        x = np.clip((features - mean) / deviation, -6.0, 6.0)
        num_classes = int(labels.max()) + 1
        noise = rng.random(len(labels)) < config.label_noise
        noisy = np.where(noise, rng.integers(num_classes, size=len(labels)), labels)
        return Task(
            config=config,
            make_model=functools.partial(mlp, [x.shape[1], config.width, num_classes], nn.ReLU),
            make_optimizer=functools.partial(make_optimizer, config),
            loss=cross_entropy,
            train=dataset(x[train], noisy[train]),
            validation=tensors(x[validation], labels[validation]),
            test=tensors(x[test], labels[test]),
            buckets=Buckets.from_scores(linear_probe_scores(x[train], noisy[train]), config.num_buckets),
        )


def _load(name: str) -> tuple[np.ndarray, np.ndarray]:
    import sklearn.datasets

    loaded: Any = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    return loaded


_LOADERS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    name: functools.partial(_load, name) for name in ("wine", "breast_cancer", "iris")
}
