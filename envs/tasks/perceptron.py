"""The student of the families that train multilayer perceptrons."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from rlsched import _check
from rlsched.envs.tasks.data import DataConfig, log_uniform
from rlsched.envs.tasks.models import ACTIVATIONS, mlp


@dataclass(frozen=True, kw_only=True)
class PerceptronConfig(DataConfig):
    """Settings of tasks that train an MLP.

    Attributes:
        width: units of each hidden layer, in [1, 4096].
        depth: hidden layers, in [0, 8], 0 for a linear model.
        activation: "relu", "tanh", "gelu" or "silu".
        init_scale: initial weights relative to torch's default, in [0.01, 100].
    """

    width: int = 32
    depth: int = 1
    activation: str = "relu"
    init_scale: float = 1.0

    shared: ClassVar[tuple[str, ...]] = (*DataConfig.shared, "depth")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("width", self.width, 1, 4096)
        _check.integer("depth", self.depth, 0, 8)
        _check.choice("activation", self.activation, ACTIVATIONS)
        _check.real("init_scale", self.init_scale, 0.01, 100.0)

    def network(self, inputs: int, outputs: int) -> Callable[[torch.Generator], nn.Module]:
        """Makes MLPs (B, inputs) -> (B, outputs) with weights from a generator."""
        sizes = [inputs, *[self.width] * self.depth, outputs]
        return functools.partial(mlp, sizes, self.activation, scale=self.init_scale)


def sample_perceptron(rng: np.random.Generator, *, min_depth: int = 1) -> dict[str, Any]:
    """Width (8 to 128, log-uniform), depth (up to 3) and activation of an MLP."""
    return {
        "width": round(log_uniform(rng, 8, 128)),
        "depth": int(rng.integers(min_depth, 4)),
        "activation": str(rng.choice(sorted(ACTIVATIONS))),
    }
