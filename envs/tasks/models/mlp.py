"""Multilayer perceptrons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from rlsched.envs.tasks.models.init import linear

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}


def mlp(sizes: Sequence[int], activation: str, generator: torch.Generator, scale: float = 1.0) -> nn.Sequential:
    """A multilayer perceptron with `scale` times torch's default initialisation, drawn from `generator`.

    Weights and biases of a layer with n inputs are uniform in [-scale / sqrt(n), scale / sqrt(n)].
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [linear(inputs, outputs, generator, scale), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
