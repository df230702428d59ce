"""Classification of scikit-learn's bundled digits by small convolutional networks."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlsched import _check
from rlsched.envs.tasks.assemble import Pool, assemble
from rlsched.envs.tasks.data import DataConfig, DataFamily, happens
from rlsched.envs.tasks.digits import DIGITS, load_digits
from rlsched.envs.tasks.losses import cross_entropy
from rlsched.envs.tasks.models import check_groups, image_cnn
from rlsched.envs.tasks.task import Task, TaskConfig, expect


@dataclass(frozen=True, kw_only=True)
class DigitsCNNConfig(DataConfig):
    """One task of digits as images (1, 8, 8).

    Attributes:
        channels: of the first convolution, in [1, 256]; the second has twice as many.
        normalised: whether group normalisation follows the convolutions; channels are then in fours.
    """

    channels: int = 8
    normalised: bool = False

    shared: ClassVar[tuple[str, ...]] = (*DataConfig.shared, "channels", "normalised")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("channels", self.channels, 1, 256)
        check_groups(self.channels, self.normalised)


@dataclass(frozen=True)
class DigitsCNN(DataFamily):
    """Digits for convolutional networks: each task has its own data split, size of network and optimizer.

    A step costs several times that of an MLP, so runs and batches are limited.

    Attributes:
        normalised: share of the networks that have normalisation layers, in [0, 1].
    """

    max_steps: int = 1000
    max_batch: int = 128
    normalised: float = 0.0

    reference_lr: ClassVar[dict[str, float]] = {"sgd": 0.03, "adam": 0.01, "adamw": 0.01}
    most_examples: ClassVar[float] = DIGITS
    config_type: ClassVar = DigitsCNNConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.real("normalised", self.normalised, 0.0, 1.0)

    def sample(self, rng: np.random.Generator) -> DigitsCNNConfig:
        """Settings of one task."""
        return DigitsCNNConfig(
            **self.common(rng), channels=int(rng.choice([4, 8, 16])), normalised=happens(rng, self.normalised)
        )

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `DigitsCNNConfig`."""
        config = expect(config, DigitsCNNConfig)
        pixels, labels = load_digits()
        return assemble(
            config,
            # One scale for all pixels: each by its own would blow up the ones that are nearly always black.
            Pool((pixels / pixels.std()).reshape(-1, 1, 8, 8), labels, num_classes=10, standardise=False),
            np.random.default_rng(config.data_seed),
            make_model=functools.partial(image_cnn, config.channels, 10, normalised=config.normalised),
            loss=cross_entropy,
        )
