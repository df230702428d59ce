"""One-dimensional signals in the manner of MNIST-1D."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from rlsched import _check
from rlsched.contract import Array
from rlsched.envs.tasks.assemble import Pool, assemble
from rlsched.envs.tasks.data import DataFamily, happens, log_uniform
from rlsched.envs.tasks.losses import cross_entropy
from rlsched.envs.tasks.models import check_groups, signal_cnn
from rlsched.envs.tasks.perceptron import PerceptronConfig, sample_perceptron
from rlsched.envs.tasks.task import Task, TaskConfig, expect

LENGTH = 40
"""Points of a signal."""

# Ten digits, drawn with a pen that moves along one axis (Greydanus 2020, arXiv:2011.14439).
_TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)
_PADDED = 72
"""Points before sub-sampling: a template's 12 and the most padding, 60."""


@dataclass(frozen=True, kw_only=True)
class SignalsConfig(PerceptronConfig):
    """One task of signals in ten classes.

    Attributes:
        model: "mlp", with the width, depth, activation and init_scale given, or "cnn".
        channels: of the convolutions of a "cnn", in [1, 256].
        normalised: whether group normalisation follows each of a "cnn"; channels are then in fours.
        noise: standard deviation of the correlated noise around the template, in [0, 10]; MNIST-1D has 0.25.
        pool_size: signals of which a fifth each is kept for validation and test, at least 50.
    """

    model: str = "mlp"
    channels: int = 8
    normalised: bool = False
    noise: float = 0.25
    pool_size: int = 1500

    shared: ClassVar[tuple[str, ...]] = (*PerceptronConfig.shared, "model", "channels", "normalised")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice("model", self.model, ("mlp", "cnn"))
        _check.integer("channels", self.channels, 1, 256)
        check_groups(self.channels, self.normalised)
        _check.real("noise", self.noise, 0.0, 10.0)
        _check.integer("pool_size", self.pool_size, 50)


@dataclass(frozen=True)
class Signals(DataFamily):
    """Signals for MLPs and for one-dimensional convolutional networks, half of the tasks each.

    Attributes:
        normalised: share of the latter that have normalisation layers, in [0, 1].
    """

    normalised: float = 0.0

    reference_lr: ClassVar[dict[str, float]] = {"sgd": 0.03, "adam": 0.003, "adamw": 0.003}
    most_examples: ClassVar[float] = 4000
    config_type: ClassVar = SignalsConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.real("normalised", self.normalised, 0.0, 1.0)

    def sample(self, rng: np.random.Generator) -> SignalsConfig:
        """Settings of one task."""
        common, student = self.common(rng), sample_perceptron(rng)
        model = str(rng.choice(["mlp", "cnn"]))
        return SignalsConfig(
            **common,
            **student,
            model=model,
            channels=int(rng.choice([8, 16])),
            noise=log_uniform(rng, 0.05, 0.5),
            # Making signals is what takes time, so no more than the three fifths that are trained on ask for;
            # 640 leave enough for the largest batch.
            pool_size=max(640, math.ceil(common["num_examples"] / 0.6)),
            normalised=model == "cnn" and happens(rng, self.normalised),
        )

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `SignalsConfig`."""
        config = expect(config, SignalsConfig)
        rng = np.random.default_rng(config.data_seed)
        labels = rng.integers(10, size=config.pool_size)
        make_model: Callable[[torch.Generator], nn.Module] = (
            config.network(LENGTH, 10)
            if config.model == "mlp"
            else functools.partial(signal_cnn, config.channels, 10, normalised=config.normalised)
        )
        signals = make_signals(labels, config.noise, rng)
        return assemble(
            config, Pool(signals, labels, num_classes=10), rng, make_model=make_model, loss=cross_entropy
        )


def make_signals(labels: Array, noise: float, rng: np.random.Generator) -> Array:
    """Signals (n, 40) of classes (n,) in [0, 10), made as those of MNIST-1D, all at once.

    Each template is padded with 36 to 60 zeros, stretched to 72 points, scaled by 0.8 to 1.2 and moved around by
    up to 47 points; the points outside it become noise of standard deviation `noise`, smoothed by a Gaussian of
    two points (which lowers it); noise of 0.02 is added everywhere, and a slope between -0.375 and 0.375; and 40
    points of it are read by linear interpolation.
    """
    size = (len(labels), 1)
    values, slopes = _templates()
    length = 12 + rng.integers(36, 61, size=size)
    shift = rng.integers(48, size=size)
    # Where on its padded template each of the 72 points lies; only the first 12 units are not padding.
    position = ((np.arange(_PADDED) - shift) % _PADDED).astype(np.float32) * np.float32(
        (length - 1) / (_PADDED - 1)
    )
    left = np.minimum(position.astype(np.int64), 12)
    inside = left < 12
    entry = left + values.shape[1] * np.asarray(labels)[:, None]
    signal = values.ravel()[entry] + (position - left) * slopes.ravel()[entry]
    signal *= 1 + 0.4 * (rng.random(size) - 0.5)

    correlated = rng.standard_normal(signal.shape, dtype=np.float32) @ _smoothing()
    signal = np.where(inside, signal, np.float32(noise) * correlated)
    signal += np.float32(0.02) * rng.standard_normal(signal.shape, dtype=np.float32)
    signal -= 0.75 * (rng.random(size) - 0.5) * np.linspace(-0.5, 0.5, _PADDED)
    signals: Array = signal @ _subsampling()
    return signals


@functools.cache
def _templates() -> tuple[Array, Array]:
    """Values and slopes (10, 13) of the templates from each of their points to the next, and of the padding."""
    templates = _TEMPLATES - _TEMPLATES.mean(axis=1, keepdims=True)
    templates /= templates.std(axis=1, keepdims=True)
    templates = np.pad((templates - templates[:, :1]) / 6.0, ((0, 0), (0, 2)))
    return templates[:, :-1].astype(np.float32), np.diff(templates, axis=1).astype(np.float32)


@functools.cache
def _smoothing() -> Array:
    """(72, 72) the Gaussian filter of two points, cut at eight, with mirrored ends."""
    kernel = np.exp(-0.5 * (np.arange(-8, 9) / 2.0) ** 2)
    mirrored = np.pad(np.eye(_PADDED), ((0, 0), (8, 8)), mode="symmetric")
    rows = np.stack([np.convolve(row, kernel / kernel.sum(), mode="valid") for row in mirrored])
    return rows.astype(np.float32)


@functools.cache
def _subsampling() -> Array:
    """(72, 40) linear interpolation at 40 evenly spaced points."""
    points = np.linspace(0, _PADDED - 1, LENGTH)
    weights = np.maximum(0.0, 1.0 - np.abs(points - np.arange(_PADDED)[:, None]))
    return weights.astype(np.float32)
