"""What a case is: data, a model, and a loss of each example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from rlsched.contract import Array

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of outputs and targets of n examples, (n,) losses."""
HELD_OUT = 0.2
"""Share of the examples that is kept for validation, and the same again for the test."""


@dataclass(frozen=True, eq=False)
class Problem:
    """One training run to be scheduled.

    Attributes:
        train, validation, test: examples and their targets.
        make_model: initialised from torch's global generator, as a user's is.
        loss: of each example.
    """

    train: TensorDataset
    validation: TensorDataset
    test: TensorDataset
    make_model: Callable[[], nn.Module]
    loss: Loss


def split(
    x: Array,
    y: Array,
    make_model: Callable[[], nn.Module],
    loss: Loss,
    rng: np.random.Generator,
    *,
    wrong: float = 0.0,
) -> Problem:
    """A problem of examples `x` (n, ...) and targets `y` (n, ...), of which a share `wrong` is drawn anew.

    It is drawn from all classes alike, so that some are right by chance, and in training alone.
    """
    order = rng.permutation(len(x))
    x, y = x[order], y[order]
    held = round(HELD_OUT * len(x))
    if wrong:
        y = y.copy()
        chosen = 2 * held + rng.choice(len(x) - 2 * held, round(wrong * (len(x) - 2 * held)), replace=False)
        y[chosen] = rng.integers(y.max() + 1, size=len(chosen))
    train, validation, test = (
        TensorDataset(_tensor(x[part]), _tensor(y[part]))
        for part in (slice(2 * held, None), slice(0, held), slice(held, 2 * held))
    )
    return Problem(train, validation, test, make_model, loss)


def _tensor(values: Array) -> Tensor:
    """Whole numbers as int64, others as float32."""
    whole = np.issubdtype(values.dtype, np.integer)
    return torch.as_tensor(values.astype(np.int64 if whole else np.float32))


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """(n,) of logits (n, C), or (n, L, C) of sequences, whose mean it is."""
    losses = nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none")
    return losses.view(len(targets), -1).mean(dim=1)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """(n,) mean over the D outputs of (n, D)."""
    return (outputs - targets).square().mean(dim=1)
