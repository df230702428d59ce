"""The first cases: photographs, a landscape, English prose, and classic tables.

Most of them took part in the choice of the shipped policy.

They are functions of a seed that return a `UserTask`, as docs/tasks.md asks of users. The models are written with
torch's own layers and initialisation.
"""

from __future__ import annotations

import pydoc_data.topics
from collections.abc import Callable

import numpy as np
from matplotlib.cbook import get_sample_data
from sklearn import datasets
from torch import nn

from rlsched.contract import Array
from rlsched.envs.tasks import UserTask
from rlsched.envs.tasks.losses import cross_entropy, squared_error
from rlsched.experiments.real_cases.case import (
    Case,
    Recurrent,
    Transformer,
    disjoint_patches,
    mlp,
    next_character,
    picture,
)
from rlsched.experiments.real_cases.data import user_task


def photograph(seed: int) -> UserTask:
    """The colour of each point of a photograph of a flower, of its coordinates."""
    return picture(_photographs()[1][::6, ::6] / 255.0, seed)


def landscape(seed: int) -> UserTask:
    """The height of each point of a map of Tennessee, in standard deviations."""
    with np.load(get_sample_data("jacksboro_fault_dem.npz", asfileobj=False)) as found:
        heights = found["elevation"][::6, ::6, None].astype(float)
    return picture(heights, seed, standardise=True)


def patches(wrong: float) -> Callable[[int], UserTask]:
    """Which of two photographs a patch of 8 x 8 points is from, for a CNN with batch normalisation.

    Patches do not overlap; 1,500 of either photograph are in use.
    """

    def model() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(128, 2),
        )  # fmt: skip

    def make(seed: int) -> UserTask:
        x = np.concatenate([disjoint_patches(picture)[:1500] for picture in _photographs()])
        return user_task(x / 255.0 - 0.5, np.repeat([0, 1], 1500), model, cross_entropy, seed, wrong=wrong)

    return make


def _photographs() -> list[Array]:
    return [np.asarray(picture) for picture in datasets.load_sample_images().images]


def clusters(wrong: float) -> Callable[[int], UserTask]:
    """Guyon's classes: clusters at the corners of a hypercube, with features that say nothing."""

    def make(seed: int) -> UserTask:
        x, y = datasets.make_classification(
            2000, 30, n_informative=10, n_redundant=5, n_classes=5, n_clusters_per_class=2, random_state=0
        )
        return user_task(x, y, lambda: mlp(30, 64, 5), cross_entropy, seed, standardise=True, wrong=wrong)

    return make


def friedman(seed: int) -> UserTask:
    """Friedman's first regression problem, with noise."""
    x, y = datasets.make_friedman1(2000, 10, noise=1.0, random_state=0)
    return user_task(x, y[:, None], lambda: mlp(10, 64, 1), squared_error, seed, standardise=True)


def digits(wrong: float) -> Callable[[int], UserTask]:
    """Handwritten digits of 8 x 8 points, in [0, 1]."""

    def make(seed: int) -> UserTask:
        x, y = datasets.load_digits(return_X_y=True)
        return user_task(x / 16.0, y, lambda: mlp(64, 128, 10), cross_entropy, seed, wrong=wrong)

    return make


def diabetes(seed: int) -> UserTask:
    """Progression of diabetes after a year."""
    x, y = datasets.load_diabetes(return_X_y=True)
    return user_task(x, y[:, None], lambda: mlp(10, 64, 1), squared_error, seed, standardise=True)


def prose(make_model: Callable[[int], nn.Module]) -> Callable[[int], UserTask]:
    """The next character of English prose: Python's reference manual, which versions of Python differ in."""

    def make(seed: int) -> UserTask:
        text = "".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
        return next_character(text, make_model, seed)

    return make


CASES = (
    Case("photograph, MLP", photograph),
    Case("landscape, MLP", landscape),
    Case("patches, CNN", patches(0.0)),
    Case("patches, 30 % wrong, CNN", patches(0.3), noisy=True),
    Case("clusters, MLP", clusters(0.0)),
    Case("clusters, 30 % wrong, MLP", clusters(0.3), noisy=True),
    Case("friedman, MLP", friedman),
    Case("prose, GRU", prose(lambda size: Recurrent(size, nn.GRU))),
    Case("prose, transformer", prose(Transformer)),
    Case("digits, MLP", digits(0.0), seen=True),
    Case("digits, 30 % wrong, MLP", digits(0.3), noisy=True, seen=True),
    Case("diabetes, MLP", diabetes, seen=True),
)
