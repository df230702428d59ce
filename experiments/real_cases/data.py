"""From arrays to a task as a user would write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlsched.contract import Array
from rlsched.envs.tasks import UserTask
from rlsched.envs.tasks.assemble import tensors

STEPS, BATCH = 500, 32
HELD_OUT = 0.2
"""Share of the examples that is kept for validation, and the same again for the test."""

Loss = Callable[[nn.Module, Any], Tensor]
"""Of a model on a batch of n examples, (n,) losses."""


def user_task(
    x: Array,
    y: Array,
    model: Callable[[], nn.Module],
    loss: Loss,
    seed: int,
    *,
    standardise: bool = False,
    wrong: float = 0.0,
) -> UserTask:
    """500 steps of AdamW with torch's defaults on inputs `x` (n, ...) and targets `y` (n, ...).

    The test part is the same for every seed; what is left is divided anew into training and validation.

    Args:
        x, y: all examples.
        model: makes a network, initialised as torch does.
        loss: of each example.
        seed: of the division, and of the labels that are wrong.
        standardise: whether inputs, and targets that are not classes, are standardised by the training part.
        wrong: share of the training labels that are drawn anew from all classes; some are right by chance.
    """
    held = round(HELD_OUT * len(x))
    test, rest = np.split(np.random.default_rng(0).permutation(len(x)), [held])
    rng = np.random.default_rng(seed)
    validation, train = np.split(rng.permutation(rest), [held])
    if standardise:
        x, y = _standardised(x, train), y if y.dtype.kind == "i" else _standardised(y, train)
    if wrong:
        y = y.copy()
        chosen = rng.choice(train, round(wrong * len(train)), replace=False)
        y[chosen] = rng.integers(y.max() + 1, size=len(chosen))
    parts = [tensors(x[part], y[part]) for part in (train, validation, test)]
    return UserTask(
        model=lambda generator: model(),
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        loss=loss,
        optimizer=lambda network: torch.optim.AdamW(network.parameters(), lr=1e-3),
        num_steps=STEPS,
        batch_size=BATCH,
    )


def _standardised(values: Array, train: Array) -> Array:
    seen = values[train]
    return np.asarray((values - seen.mean(axis=0)) / seen.std(axis=0))
