"""What closed-loop methods read off a window, where it takes more than a field."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlsched.contract import Array, Window

LARGEST = 1e100
"""Gradient norms beyond it are taken for it, so that products of them are finite."""


class Metric(NamedTuple):
    """What R runs are judged by in one window.

    Attributes:
        value: (R,) loss; NaN where none was measured, +inf where it was not finite.
        validated: (R,) whether a validation loss was reported in this window or before.
        begins: (R,) whether it is the run's first validation loss, which no earlier value compares with.
    """

    value: Array
    validated: Array
    begins: Array


def window_metric(window: Window, validated: Array) -> Metric:
    """The validation loss of `window` if one was reported, else the training loss.

    Where a validation loss was reported earlier, as `validated` (R,) says, a window without one is one without a
    measurement: comparing the two kinds of loss would be taken for progress, or for a lack of it.
    """
    reported = ~np.isnan(window.validation_loss)
    known = validated | reported
    return Metric(np.where(known, window.validation_loss, window.loss), known, reported & ~validated)


def gradient_product(window: Window, norm_before: Array) -> Array:
    """(R,) mean inner product of consecutive gradients; NaN where it was not measured.

    It is the mean cosine times the norms. A window of one step has the norm of one gradient only, and that of the
    other from the window before, `norm_before` (R,); NaN stands for an equal one.
    """
    norm = np.minimum(window.grad_norm, LARGEST)
    single = (window.spec.boundary(window.decision) - window.spec.boundary(window.decision - 1)) == 1
    other = np.where(single & np.isfinite(norm_before), np.minimum(norm_before, LARGEST), norm)
    return np.asarray(window.grad_agreement * norm * other)


def first_base_lr(window: Window) -> Array:
    """(R,) base learning rate of the first parameter group; NaN where it is zero, and so is every multiple."""
    base = window.spec.base_lr[:, 0]
    return np.where(base > 0.0, base, np.nan)
