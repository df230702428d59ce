"""Cases written down before any policy was run on them; its ceiling was decided by two of them."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.image
import numpy as np
from matplotlib.cbook import get_sample_data
from sklearn import datasets
from torch import Tensor, nn

from rlsched.contract import Array
from rlsched.envs.tasks import UserTask
from rlsched.envs.tasks.losses import cross_entropy, squared_error
from rlsched.experiments.real_cases.case import (
    LENGTH,
    Case,
    Transformer,
    disjoint_patches,
    mlp,
    next_character,
    picture,
)
from rlsched.experiments.real_cases.data import user_task
from rlsched.experiments.real_cases.held_back import NGram


def quantiles(wrong: float) -> Callable[[int], UserTask]:
    """Three shells of an eight-dimensional Gaussian."""

    def make(seed: int) -> UserTask:
        x, y = datasets.make_gaussian_quantiles(n_samples=2000, n_features=8, n_classes=3, random_state=0)
        return user_task(x, y, lambda: mlp(8, 96, 3), cross_entropy, seed, wrong=wrong)

    return make


def checkers(seed: int) -> UserTask:
    """The colour of a field of a board of four by four, of coordinates in [0, 1], some of them misread."""
    rng = np.random.default_rng(0)
    x = rng.random((2000, 2))
    y = np.floor(4.0 * (x + 0.01 * rng.standard_normal(x.shape))).astype(int).sum(axis=1) % 2
    return user_task(x, y, lambda: mlp(2, 64, 2), cross_entropy, seed)


def words(seed: int) -> UserTask:
    """The first of five topics that a text is about, or none, of the counts of its words."""
    x, y = datasets.make_multilabel_classification(
        2000, 40, n_classes=5, n_labels=2, return_distributions=False, random_state=0
    )
    target = np.where(y.any(axis=1), y.argmax(axis=1), 5)

    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(40, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 6))

    return user_task(x, target, model, cross_entropy, seed)


def plane(seed: int) -> UserTask:
    """A linear model of forty features, a fifth of which say something, for three classes."""
    x, y = datasets.make_classification(
        2000,
        40,
        n_informative=8,
        n_redundant=0,
        n_classes=3,
        n_clusters_per_class=1,
        class_sep=0.7,
        random_state=0,
    )
    return user_task(x, y, lambda: nn.Linear(40, 3), cross_entropy, seed, standardise=True)


def swiss_roll(seed: int) -> UserTask:
    """How far along a rolled sheet a point is, of its three coordinates and some noise."""
    x, y = datasets.make_swiss_roll(2000, noise=0.5, random_state=0)
    return user_task(x, y[:, None], lambda: mlp(3, 64, 1), squared_error, seed, standardise=True)


def sparse(seed: int) -> UserTask:
    """Four of ten features act, linearly, and the noise is as large as what they say."""
    x, y = datasets.make_sparse_uncorrelated(2000, 10, random_state=0)
    return user_task(x, y[:, None], lambda: mlp(10, 32, 1), squared_error, seed, standardise=True)


def sea_floor(seed: int) -> UserTask:
    """Heights and depths of a piece of the earth's surface, of sines and cosines of the coordinates."""
    with np.load(get_sample_data("topobathy.npz", asfileobj=False)) as found:
        return picture(found["topo"][..., None].astype(float), seed, standardise=True)


def denoising(seed: int) -> UserTask:
    """Patches of a portrait, in [0, 1], of what is left of them under noise; for a CNN."""
    portrait = matplotlib.image.imread(get_sample_data("grace_hopper.jpg", asfileobj=False)).mean(axis=2) / 255.0
    clean = disjoint_patches(portrait[..., None])[:3000]
    noisy = clean + 0.1 * np.random.default_rng(1).standard_normal(clean.shape)

    def model() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 1, 3, padding=1),
        )  # fmt: skip

    return user_task(noisy, clean, model, squared_error, seed)


def series(seed: int) -> UserTask:
    """The next value of a chaotic series (Mackey and Glass 1977, delay 17) after each of 32, for a GRU."""
    values = _mackey_glass(3 * (LENGTH + 1) * 1500)[::3].reshape(-1, LENGTH + 1, 1)
    values = (values - values.mean()) / values.std()
    return user_task(values[:, :-1], values[:, 1:], Forecast, squared_error, seed)


def docstrings(make_model: Callable[[int], nn.Module]) -> Callable[[int], UserTask]:
    """The next character of what NumPy's functions say of themselves, which versions of NumPy differ in."""

    def make(seed: int) -> UserTask:
        texts = [getattr(np, name).__doc__ or "" for name in sorted(np.__all__)]
        # Each line once: much of what they say is the same.
        lines = dict.fromkeys(line for text in texts for line in text.splitlines(keepends=True))
        return next_character("".join(c for c in "".join(lines) if c.isascii()), make_model, seed)

    return make


class Forecast(nn.Module):
    """A GRU over numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.output = nn.GRU(1, 48, batch_first=True), nn.Linear(48, 1)

    def forward(self, values: Tensor) -> Tensor:
        return self.output(self.recurrent(values)[0])


def _mackey_glass(count: int, delay: int = 17) -> Array:
    """(count,) of the series at whole times, by Euler's method in steps of one, after a thousand to settle."""
    values = np.full(count + 1000 + delay, 1.2)
    for t in range(delay, len(values) - 1):
        past = values[t - delay]
        values[t + 1] = 0.9 * values[t] + 0.2 * past / (1.0 + past**10)
    return values[-count:]


FRESH = (
    Case("quantiles, MLP", quantiles(0.0)),
    Case("quantiles, 30 % wrong, MLP", quantiles(0.3), noisy=True),
    Case("checkers, MLP", checkers),
    Case("words, MLP with layer norm", words),
    Case("plane, linear model", plane),
    Case("swiss roll, MLP", swiss_roll),
    Case("sparse, MLP", sparse),
    Case("sea floor, MLP", sea_floor),
    Case("portrait, denoising CNN", denoising),
    Case("series, GRU", series),
    Case("docstrings, n-gram", docstrings(NGram)),
    Case("docstrings, transformer", docstrings(Transformer)),
)
