"""What a case is, and what several of them are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rlsched.contract import Array
from rlsched.envs.tasks import UserTask
from rlsched.envs.tasks.losses import sequence_cross_entropy, squared_error
from rlsched.experiments.real_cases.data import user_task

LENGTH = 32
"""Characters of a sequence."""
PATCH = 8
"""Points of a patch, either way."""
FREQUENCIES = 8
"""Octaves of the sines and cosines that coordinates are given as."""
TEXT = 200_000
"""Characters of a text that are in use, its first."""


@dataclass(frozen=True)
class Case:
    """A training run to be scheduled.

    Attributes:
        name: what it is.
        make: the task of a seed, which divides the data and draws what is wrong with the labels.
        noisy: whether labels are wrong.
        seen: whether tasks on the same data, divided otherwise, trained the shipped policy.
    """

    name: str
    make: Callable[[int], UserTask]
    noisy: bool = False
    seen: bool = False


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def next_character(text: str, make_model: Callable[[int], nn.Module], seed: int) -> UserTask:
    """The next character after each of 32, for the model that `make_model` makes of the size of the alphabet."""
    letters, codes = np.unique(list(text[:TEXT]), return_inverse=True)
    windows = codes[: len(codes) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)
    x, y = windows[:, :-1], windows[:, 1:]
    return user_task(x, y, lambda: make_model(len(letters)), sequence_cross_entropy, seed)


def picture(values: Array, seed: int, standardise: bool = False) -> UserTask:
    """A regression from points in [0, 1]^2 to `values` (H, W, D)."""
    height, width, outputs = values.shape
    points = np.stack(np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij"), axis=-1)
    angles = (points.reshape(-1, 2, 1) * np.pi * 2.0 ** np.arange(FREQUENCIES)).reshape(height * width, -1)
    x, y = np.concatenate([np.sin(angles), np.cos(angles)], axis=1), values.reshape(-1, outputs)
    return user_task(x, y, lambda: mlp(x.shape[1], 128, outputs), squared_error, seed, standardise=standardise)


def disjoint_patches(image: Array) -> Array:
    """(n, C, 8, 8) patches of an image (H, W, C), in an order that is always the same."""
    height, width, colours = image.shape
    grid = image[: height // PATCH * PATCH, : width // PATCH * PATCH]
    cut = grid.reshape(height // PATCH, PATCH, width // PATCH, PATCH, colours).transpose(0, 2, 4, 1, 3)
    return np.random.default_rng(0).permutation(cut.reshape(-1, colours, PATCH, PATCH))


class Recurrent(nn.Module):
    """A recurrent network of torch's over embedded characters."""

    def __init__(self, vocabulary: int, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 32)
        self.recurrent = kind(32, 64, batch_first=True)
        self.output = nn.Linear(64, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.recurrent(self.embedding(tokens))[0])


class Transformer(nn.Module):
    """torch's encoder with a causal mask, two layers, by default with the normalisation before each part."""

    def __init__(self, vocabulary: int, norm_first: bool = True) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(vocabulary, 64), nn.Embedding(LENGTH, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True, norm_first=norm_first)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = nn.Linear(64, vocabulary)
        self.mask: Tensor
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embedding(tokens) + self.positions(torch.arange(LENGTH))
        return self.output(self.layers(embedded, mask=self.mask, is_causal=True))
