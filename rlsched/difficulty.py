"""Difficulty scores for `Buckets.from_scores`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlsched import _check
from rlsched.contract import Array


def linear_probe_scores(features: npt.ArrayLike, labels: npt.ArrayLike, ridge: float = 1.0) -> Array:
    """How badly a linear model that never saw an example predicts its label.

    A ridge regression of the one-hot labels on the features is solved once, and each example is scored by
    the length of its leave-one-out residual, `|y_i - yhat_i| / (1 - h_ii)` with h the hat matrix (Allen 1974,
    PRESS). A mislabelled example cannot explain itself away, and nothing has to be trained or tuned.

    Args:
        features: (n, d) finite; standardise them first, the ridge is one for all.
        labels: (n,) integer classes.
        ridge: penalty, in [1e-6, 1e6].

    Returns:
        (n,) scores, higher is harder.
    """
    x = _check.matrix("features", features)
    y = _check.labels("labels", labels)
    if len(y) != len(x):
        raise _check.ArgumentError(f"labels must have one entry per example ({len(x)}), got {len(y)}.")
    ridge = _check.real("ridge", ridge, 1e-6, 1e6)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    target = (y[:, None] == np.unique(y)).astype(np.float64)
    inverse = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T)
    leverage = np.einsum("ij,ji->i", x, inverse)
    residual = target - x @ (inverse @ target)
    return np.linalg.norm(residual, axis=1) / np.maximum(1.0 - leverage, 1e-6)
