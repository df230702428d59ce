"""A network that squares: the simplest that can multiply, and so add angles."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsched.envs.tasks.models.init import linear


class Square(nn.Module):
    """x^2, element by element."""

    def forward(self, x: Tensor) -> Tensor:
        return x.square()


def square_network(inputs: int, width: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    """Two linear layers with squares in between (Gromov 2023, arXiv:2301.02679); (B, inputs) -> (B, outputs)."""
    return nn.Sequential(linear(inputs, width, generator), Square(), linear(width, outputs, generator))
