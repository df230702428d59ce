"""Between torch and NumPy: reported losses, and the arrays of states in checkpoints."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlsched.contract import Array

Losses = float | Array
"""Of a step: the mean over its examples, or (n,) float64, one per example."""


def as_losses(name: str, loss: Any) -> Losses | None:
    """What `step` accepts, validated; None stays None."""
    if loss is None:
        return None
    wanted = f"{name} must be a float, or a tensor or array of floats, or None"
    if isinstance(loss, Tensor):
        if not loss.dtype.is_floating_point:
            raise TypeError(f"{wanted}, got a tensor of {loss.dtype}.")
        if loss.ndim == 0:
            return float(loss.item())  # what most runs pass, at every step
        loss = loss.detach().to("cpu", torch.float64).numpy()
    elif isinstance(loss, Integral):
        # torch's own schedulers take an epoch here.
        raise TypeError(f"{wanted}, got {loss!r} ({type(loss).__name__}): pass the loss, not a step or an epoch.")
    elif isinstance(loss, Real):
        return float(loss)
    elif not isinstance(loss, np.ndarray) or loss.dtype.kind != "f":
        raise TypeError(f"{wanted}, got {type(loss).__name__}: wrap it by torch.tensor(...).")
    values = np.asarray(loss, dtype=np.float64)
    if values.ndim == 0:
        return float(values)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(
            f"{name} must be a scalar or one value per example, got shape {np.shape(loss)}: "
            "average over all but the batch dimension, and leave empty batches out."
        )
    return values


def mean_of(losses: Losses) -> float:
    """Their mean."""
    return losses if isinstance(losses, float) else float(losses.mean())


def to_tensors(state: Any) -> Any:
    """A state with tensors for arrays, at any depth: what `torch.load` reads under `weights_only=True`."""
    if isinstance(state, dict):
        return {name: to_tensors(value) for name, value in state.items()}
    if isinstance(state, list):
        return [to_tensors(value) for value in state]
    return torch.from_numpy(np.array(state)) if isinstance(state, np.ndarray | np.generic) else state


def to_arrays(state: Any) -> Any:
    """The opposite of `to_tensors`."""
    if isinstance(state, dict):
        return {name: to_arrays(value) for name, value in state.items()}
    if isinstance(state, list):
        return [to_arrays(value) for value in state]
    return to_array(state) if isinstance(state, Tensor) else state


def to_array(values: Tensor) -> Array:
    """A tensor on any device as an array of its own."""
    # A checkpoint may have been mapped to the device of the model.
    return np.array(values.cpu().numpy())
