"""Losses with hand-written derivatives, for stacked multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlsched.envs.tasks.losses import cross_entropy, squared_error


class CrossEntropy:
    """`rlsched.envs.tasks.losses.cross_entropy` of R classifiers.

    Args:
        outputs: classes of each row.
        width: outputs including padding, whose logits are held at minus infinity.
        dtype: of the logits.
        device: of the same.
    """

    def __init__(self, outputs: Sequence[int], width: int, dtype: torch.dtype, device: torch.device) -> None:
        classes = torch.tensor(outputs, device=device)
        padded = torch.arange(width, device=device) >= classes[:, None]
        self._mask = torch.zeros(padded.shape, dtype=dtype, device=device).masked_fill(padded, -torch.inf)[:, None]

    def pad(self, targets: Tensor) -> Tensor:
        """Labels (n,), as they are."""
        return targets

    def bias(self, bias: Tensor) -> Tensor:
        """The last layer's bias (R, 1, C) with the padding masked: cheaper than masking the logits."""
        return bias + self._mask

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Losses (R, B) of logits (R, B, C) and labels (R, B).

        With `weights` (R, B) also the derivative (R, B, C) of the weighted sum of losses.
        """
        log_probabilities = torch.log_softmax(outputs, dim=2)
        index = targets[:, :, None]
        losses = log_probabilities.gather(2, index)[:, :, 0].neg_()
        if weights is None:
            return losses, losses
        along = torch.zeros_like(outputs).scatter_(2, index, -weights[:, :, None])
        # torch's own derivative is half the price of probabilities minus one-hot labels.
        return losses, torch.ops.aten._log_softmax_backward_data(along, log_probabilities, 2, outputs.dtype)


class SquaredError:
    """`rlsched.envs.tasks.losses.squared_error` of R regressions; the arguments are those of `CrossEntropy`."""

    def __init__(self, outputs: Sequence[int], width: int, dtype: torch.dtype, device: torch.device) -> None:
        self._width = width
        self._share = 1.0 / torch.tensor(outputs, dtype=dtype, device=device)[:, None]

    def pad(self, targets: Tensor) -> Tensor:
        """Targets (n, T) with zeros, which padded outputs meet exactly."""
        return torch.nn.functional.pad(targets, (0, self._width - targets.shape[1]))

    def bias(self, bias: Tensor) -> Tensor:
        """The last layer's bias, as it is."""
        return bias

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `CrossEntropy`, of outputs (R, B, T) and targets (R, B, T)."""
        error = outputs - targets
        losses = error.square().sum(dim=2) * self._share
        if weights is None:
            return losses, losses
        return losses, error.mul_((2.0 * self._share * weights)[:, :, None])


Head = CrossEntropy | SquaredError


def head_of(loss: Callable[..., Any]) -> type[Head] | None:
    """The head that computes a task's `loss`, or None."""
    # By identity: a loss need not be hashable.
    return CrossEntropy if loss is cross_entropy else SquaredError if loss is squared_error else None
