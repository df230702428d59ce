"""Classification and regression of scikit-learn's bundled tabular sets."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.envs.tasks.assemble import Pool, assemble
from rlsched.envs.tasks.data import DataFamily
from rlsched.envs.tasks.losses import cross_entropy, squared_error
from rlsched.envs.tasks.perceptron import PerceptronConfig, sample_perceptron
from rlsched.envs.tasks.task import Task, TaskConfig, expect

SOURCES = ("breast_cancer", "diabetes", "iris", "wine")


@dataclass(frozen=True, kw_only=True)
class TabularConfig(PerceptronConfig):
    """One tabular task.

    Attributes:
        source: "wine", "breast_cancer", "iris", or "diabetes", which is a regression.
    """

    source: str

    shared: ClassVar[tuple[str, ...]] = (*PerceptronConfig.shared, "source")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice("source", self.source, SOURCES)


@dataclass(frozen=True)
class Tabular(DataFamily):
    """Tabular tasks: one of four sets, with its own data split, network and optimizer.

    The sets are small, and so are the batches: iris has 90 training examples.
    """

    max_batch: int = 64

    most_examples: ClassVar[float] = 343
    config_type: ClassVar = TabularConfig

    def sample(self, rng: np.random.Generator) -> TabularConfig:
        """Settings of one task."""
        return TabularConfig(
            **self.common(rng),
            source=str(rng.choice(SOURCES)),
            **sample_perceptron(rng, min_depth=0),
        )

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `TabularConfig`."""
        config = expect(config, TabularConfig)
        features, targets = _load(config.source)
        num_classes = int(targets.max()) + 1 if targets.dtype.kind == "i" else 0
        return assemble(
            config,
            Pool(features, targets, num_classes=num_classes),
            np.random.default_rng(config.data_seed),
            make_model=config.network(features.shape[1], num_classes or 1),
            loss=cross_entropy if num_classes else squared_error,
        )


@functools.cache
def _load(name: str) -> tuple[Array, Array]:
    """Features (n, d), and classes (n,) or standardised targets (n, 1)."""
    import sklearn.datasets

    loaded: Any = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    features, targets = loaded
    if name == "diabetes":
        return features, ((targets - targets.mean()) / targets.std())[:, None]
    return features, targets.astype(np.int64)
