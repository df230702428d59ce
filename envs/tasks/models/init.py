"""Initialisation from a generator."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def uniform(module: ModuleT, bound: float, generator: torch.Generator) -> ModuleT:
    """`module` with its own parameters uniform in [-bound, bound], drawn from `generator`.

    With `bound` = fan_in^-1/2 it is torch's default for linear and convolutional layers, and with
    hidden_size^-1/2 the one for recurrences.
    """
    for parameter in module.parameters(recurse=False):
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return module


def linear(inputs: int, outputs: int, generator: torch.Generator, scale: float = 1.0) -> nn.Linear:
    """A linear layer whose weights and biases are uniform in [-scale / sqrt(inputs), scale / sqrt(inputs)]."""
    return uniform(_BlankLinear(inputs, outputs), scale * inputs**-0.5, generator)


class _BlankLinear(nn.Linear):
    """A linear layer that leaves its weights to the caller, where torch would draw them from the global generator.

    `nn.utils.skip_init` does the same five times more slowly, and a population makes thousands of these.
    """

    def reset_parameters(self) -> None:
        """Nothing."""
