"""Cases that no network was chosen by: small tables, formulas, and the source of Python's library."""

from __future__ import annotations

import argparse
import inspect
import optparse
import typing
from collections.abc import Callable

from sklearn import datasets
from torch import Tensor, nn

from rlsched.envs.tasks import UserTask
from rlsched.envs.tasks.losses import cross_entropy, squared_error
from rlsched.experiments.real_cases.case import Case, Recurrent, Transformer, mlp, next_character
from rlsched.experiments.real_cases.data import user_task

CONTEXT = 4
"""Characters that the n-gram model sees."""


def table(name: str) -> Callable[[int], UserTask]:
    """A classification of scikit-learn's: "breast_cancer", "wine" or "iris"."""

    def make(seed: int) -> UserTask:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        return user_task(x, y, lambda: mlp(x.shape[1], 64, y.max() + 1), cross_entropy, seed, standardise=True)

    return make


def digits(seed: int) -> UserTask:
    """Handwritten digits of 8 x 8 points, for a CNN without normalisation."""
    x, y = datasets.load_digits(return_X_y=True)

    def model() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(128, 10),
        )  # fmt: skip

    return user_task(x.reshape(-1, 1, 8, 8) / 16.0, y, model, cross_entropy, seed)


def moons(seed: int) -> UserTask:
    """Two half circles with noise."""
    x, y = datasets.make_moons(1000, noise=0.25, random_state=0)
    return user_task(x, y, lambda: mlp(2, 32, 2), cross_entropy, seed, standardise=True)


def hastie(wrong: float) -> Callable[[int], UserTask]:
    """Whether ten Gaussians are longer than usual (Hastie, Tibshirani and Friedman 2009, example 10.2)."""

    def make(seed: int) -> UserTask:
        x, y = datasets.make_hastie_10_2(2000, random_state=0)
        return user_task(x, (y > 0).astype(int), lambda: mlp(10, 64, 2), cross_entropy, seed, wrong=wrong)

    return make


def friedman(number: int) -> Callable[[int], UserTask]:
    """Friedman's second or third regression problem, with noise of a quarter of the deviation."""

    def make(seed: int) -> UserTask:
        generate = getattr(datasets, f"make_friedman{number}")
        clean = generate(2000, noise=0.0, random_state=0)[1]
        x, y = generate(2000, noise=clean.std() / 4.0, random_state=0)
        return user_task(x, y[:, None], lambda: mlp(4, 64, 1), squared_error, seed, standardise=True)

    return make


def source(make_model: Callable[[int], nn.Module]) -> Callable[[int], UserTask]:
    """The next character of source code: modules of Python's library that no task is trained on."""

    def make(seed: int) -> UserTask:
        text = "".join(inspect.getsource(module) for module in (argparse, optparse, typing))
        return next_character("".join(c for c in text if c.isascii()), make_model, seed)

    return make


class NGram(nn.Module):
    """An MLP on the embeddings of the last characters (Bengio et al. 2003)."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary + 1, 16)
        self.body = nn.Sequential(nn.Linear(16 * CONTEXT, 128), nn.Tanh(), nn.Linear(128, vocabulary))
        self.nothing = vocabulary

    def forward(self, tokens: Tensor) -> Tensor:
        padded = nn.functional.pad(tokens, (CONTEXT - 1, 0), value=self.nothing)
        return self.body(self.embedding(padded.unfold(1, CONTEXT, 1)).flatten(2))


HELD_BACK = (
    Case("breast cancer, MLP", table("breast_cancer"), seen=True),
    Case("wine, MLP", table("wine"), seen=True),
    Case("iris, MLP", table("iris"), seen=True),
    Case("digits, CNN", digits, seen=True),
    Case("moons, MLP", moons),
    Case("hastie, MLP", hastie(0.0)),
    Case("hastie, 30 % wrong, MLP", hastie(0.3), noisy=True),
    Case("friedman 2, MLP", friedman(2)),
    Case("friedman 3, MLP", friedman(3)),
    Case("source, n-gram", source(NGram)),
    Case("source, LSTM", source(lambda size: Recurrent(size, nn.LSTM))),
    Case("source, post-norm transformer", source(lambda size: Transformer(size, norm_first=False))),
)
