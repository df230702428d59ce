"""What a stack of models offers to the block that trains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from rlsched.envs.population.layout import Layout


class Network(Protocol):
    """R models of one structure, trained on by stacked operations.

    Attributes:
        layout: of the flat tensors.
        parameters: flat; changed in place by whoever trains.
        gradients: flat; what the latest `backward` found.
        dtype: of parameters and floating-point data.
        device: of the same.
    """

    layout: Layout
    parameters: Tensor
    gradients: Tensor
    dtype: torch.dtype
    device: torch.device

    def row(self, flat: Tensor, row: int) -> list[Tensor]:
        """The parameters of one row of a flat tensor, without any padding: views, in the model's order."""
        ...

    def load(self, row: int, model: nn.Module) -> None:
        """Copy the parameters of `model` into `row`."""
        ...

    def constants(self) -> dict[str, Tensor]:
        """What else (R, ...) the rows are made of, copied: it may differ by row and is not trained."""
        ...

    def load_constants(self, constants: dict[str, Tensor]) -> None:
        """Set what `constants` gave."""
        ...

    def pad(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A batch or data set of a row as the stack wants it: examples come first and stay as many."""
        ...

    def losses(self, batch: Sequence[Tensor]) -> Tensor:
        """Per-example losses (R, B) of every row on its batch, tensors (R, B, ...); no gradients."""
        ...

    def backward(self, batch: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Losses as `losses`; `gradients` become those of each row's sum of weights (R, B) * losses."""
        ...
