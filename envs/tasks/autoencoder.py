"""Compression of scikit-learn's bundled digits by autoencoders."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.envs.tasks.assemble import Pool, assemble
from rlsched.envs.tasks.data import DataConfig, DataFamily, log_uniform
from rlsched.envs.tasks.digits import DIGITS, load_digits
from rlsched.envs.tasks.losses import squared_error
from rlsched.envs.tasks.models import ACTIVATIONS, mlp
from rlsched.envs.tasks.task import Task, TaskConfig, expect


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(DataConfig):
    """One autoencoder 64 - width - code - width - 64. A wrong target is the image of another example.

    Attributes:
        width: units of the layers around the code, in [1, 4096].
        code: units of the code, in [1, 64].
        activation: of `models.ACTIVATIONS`, on all three hidden layers.
    """

    width: int = 32
    code: int = 8
    activation: str = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("width", self.width, 1, 4096)
        _check.integer("code", self.code, 1, 64)
        _check.choice("activation", self.activation, ACTIVATIONS)


@dataclass(frozen=True)
class Autoencoder(DataFamily):
    """Autoencoders of digits. Where there are domains they denoise: targets are clean."""

    reference_lr: ClassVar[dict[str, float]] = {"sgd": 0.3, "adam": 0.01, "adamw": 0.01}
    most_examples: ClassVar[float] = DIGITS
    config_type: ClassVar = AutoencoderConfig

    def sample(self, rng: np.random.Generator) -> AutoencoderConfig:
        """Settings of one task."""
        # There are no classes to be imbalanced.
        common = self.common(rng) | {"imbalance": 1.0}
        return AutoencoderConfig(
            **common,
            width=round(log_uniform(rng, 16, 128)),
            code=round(log_uniform(rng, 2, 16)),
            activation=str(rng.choice(sorted(ACTIVATIONS))),
        )

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, an `AutoencoderConfig`."""
        config = expect(config, AutoencoderConfig)
        pixels, _ = load_digits()
        images = pixels / pixels.std()
        return assemble(
            config,
            Pool(images, images, standardise=False),
            np.random.default_rng(config.data_seed),
            make_model=functools.partial(
                mlp, [64, config.width, config.code, config.width, 64], config.activation
            ),
            loss=squared_error,
            score=functools.partial(principal_component_errors, count=config.code),
        )


def principal_component_errors(inputs: Array, targets: Array, count: int) -> Array:
    """Squared errors (n,) of targets (n, d) by the first `count` principal components of inputs (n, d).

    The best linear autoencoder with as large a code: what it cannot rebuild is hard for others too.
    """
    centre = inputs.mean(axis=0)
    _, directions = np.linalg.eigh((inputs - centre).T @ (inputs - centre))
    kept = directions[:, -count:]
    rebuilt = centre + (inputs - centre) @ kept @ kept.T
    errors: Array = np.square(targets - rebuilt).sum(axis=1)
    return errors
