"""A short reference training that measures how every example fares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from rlsched import _check
from rlsched.collate import collate
from rlsched.contract import Array
from rlsched.randomness import Randomness

Loss = Callable[[nn.Module, Any], Tensor]
"""(model, collated batch) -> (B,) losses, one per example."""


def loss_history(
    model: nn.Module,
    dataset: Dataset[Any],
    loss: Loss,
    optimizer: Optimizer,
    *,
    epochs: int = 5,
    batch_size: int = 32,
    seed: int = 0,
) -> Array:
    """Train `model` for a few epochs and measure every example's loss after each.

    The scorers of `rlsched.difficulty` read the result:

        history = rlsched.loss_history(model, dataset, loss, torch.optim.Adam(model.parameters()))
        buckets = rlsched.Buckets.from_scores(rlsched.reference_loss_scores(history))

    **The model and the optimizer are left as trained**: give a copy, or a smaller model of the same kind. Training
    passes run in train mode, over shuffled batches; measuring passes in eval mode without gradients. Everything
    random follows `seed`, and torch's global generators (on the CPU and all CUDA devices) are as before
    afterwards. So is the mode of each module.

    Args:
        model: to train, on the device of the batches that `loss` expects.
        dataset: of map style, with a length; examples are collated by `torch.utils.data.default_collate`.
        loss: `loss(model, batch) -> (B,)` losses of a collated batch, which it moves to the model's device.
        optimizer: of the model's parameters.
        epochs: passes over the data, E, at least 1.
        batch_size: examples per batch, at least 1; the last batch of an epoch may be smaller, and is left out of
            training if it is a single example, which batch statistics could not be taken of.
        seed: of the order of the examples and of whatever the model draws, at least 0.

    Returns:
        (E, n) float64 losses of every example after each epoch, in the order of the data set.

    Raises:
        TypeError, ValueError: naming the argument, its range and the value; also where `loss` does not return one
            loss per example, or one that is not finite.
    """
    epochs = _check.integer("epochs", epochs, 1)
    batch_size = _check.integer("batch_size", batch_size, 1)
    seed = _check.integer("seed", seed, 0)
    size = len(dataset)  # type: ignore[arg-type]
    if size == 0:
        raise _check.ArgumentError("dataset must hold one example at least, got 0.")
    rng = np.random.default_rng(seed)
    history = np.empty((epochs, size))
    with Randomness(int(rng.integers(2**62)))(), _restored_modes(model):
        for epoch in range(epochs):
            model.train()
            for index in _batches(rng.permutation(size), batch_size):
                if len(index) == 1 < batch_size and size > 1:
                    continue
                optimizer.zero_grad()
                _losses(loss, model, dataset, index).mean().backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for index in _batches(np.arange(size), batch_size):
                    losses = _losses(loss, model, dataset, index)
                    history[epoch, index] = losses.to("cpu", torch.float64).numpy()
            _check_finite(history[epoch], epoch)
    optimizer.zero_grad()
    return history


def _batches(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _losses(loss: Loss, model: nn.Module, dataset: Dataset[Any], index: np.ndarray) -> Tensor:
    losses = loss(model, collate(dataset, index))
    if not isinstance(losses, Tensor) or losses.shape != index.shape:
        found = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else type(losses).__name__
        raise _check.ArgumentError(
            f'loss must return one loss per example ({len(index)},), got {found}: use reduction="none".'
        )
    return losses


def _check_finite(losses: Array, epoch: int) -> None:
    wrong = np.flatnonzero(~np.isfinite(losses))
    if wrong.size:
        raise _check.ArgumentError(
            f"loss must be finite on every example, got {losses[wrong[0]]} on example {wrong[0]} after epoch "
            f"{epoch + 1}: lower the optimizer's learning rate, or look for what is wrong with the example."
        )


@contextmanager
def _restored_modes(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
