"""Difficulty from a linear model, without any training."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlsched import _check
from rlsched.contract import Array


def linear_probe_scores(features: npt.ArrayLike, labels: npt.ArrayLike, ridge: float = 1.0) -> Array:
    """How badly a linear model that never saw an example predicts its label.

    A ridge regression of the targets on the features is solved once, and each example is scored by the length
    of its leave-one-out residual, `|y_i - yhat_i| / (1 - h_ii)` with h the hat matrix (Allen 1974, PRESS). A
    mislabelled example cannot explain itself away, and nothing has to be trained or tuned.

    Args:
        features: (n, d) finite; standardise them first, the ridge is one for all.
        labels: integers (n,) are classes, of which the one-hot vectors are the targets; floats (n,) or (n, t)
            are the targets themselves, finite: standardise several, their residuals are added in square.
        ridge: penalty, in [1e-6, 1e6].

    Returns:
        (n,) scores, higher is harder.

    Raises:
        TypeError, ValueError: naming the argument, its range and the value.
    """
    x = _check.matrix("features", features)
    target = _check.targets("labels", labels)
    if len(target) != len(x):
        raise _check.ArgumentError(f"labels must have one entry per example ({len(x)}), got {len(target)}.")
    if target.dtype == np.int64:
        target = (target[:, None] == np.unique(target)).astype(np.float64)
    ridge = _check.real("ridge", ridge, 1e-6, 1e6)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    inverse = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T)
    leverage = np.einsum("ij,ji->i", x, inverse)
    residual = target - x @ (inverse @ target)
    return np.linalg.norm(residual, axis=1) / np.maximum(1.0 - leverage, 1e-6)
