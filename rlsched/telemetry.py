"""From measurements at single steps to the statistics of a window.

Every host collects the same series and calls `summarise`, so that a feature has one definition.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rlsched.contract import Array, RunSpec, Window

SAMPLED_STEPS = 4
"""Gradient statistics are measured on at most this many steps, the last ones of each window."""
ZERO = 1e-12
"""Eigenvalues below this share of the largest are zero to rounding in single precision."""
FLAT = 1000.0
"""Exponent above which a spectrum has no tail. Trained layers are at 1.5 to 10."""


def is_sampled(offset: Any, steps_ahead: Any) -> Any:
    """Whether step `offset` (from 0) of a window of `steps_ahead` steps measures gradient statistics.

    Arrays that broadcast give an array of answers.
    """
    return (steps_ahead - SAMPLED_STEPS <= offset) & (offset < steps_ahead)


def hill_exponent(eigenvalues: Array) -> float:
    """Exponent a of the power law `p(x) ~ x^-a` that the upper half of `eigenvalues` follows, by Hill's estimator.

    With eigenvalues x_1 <= ... <= x_n and k = n // 2 (PL_Alpha_Hill in the literature on heavy-tailed spectra):

        a = 1 + k / sum_{i=1..k} ln(x_{n-i+1} / x_{n-k})

    Those that are zero to rounding are left out first: matrices of low rank have many. NaN if fewer than two are
    left, if one is not finite, or if the upper half is flat (a > `FLAT`), as in an orthogonal matrix: there is no
    tail then.

    Source: Hill 1975, A Simple General Approach to Inference About the Tail of a Distribution; Zhou et al. 2023,
        Temperature Balancing, Layer-wise Weight Analysis, and Neural Network Training, arXiv:2312.00359.

    Args:
        eigenvalues: (n,) at least 0, in any order.

    >>> import math
    >>> round(hill_exponent(np.array([1.0, 1.0, math.e, math.e**3])), 9)  # 1 + 2 / (3 + 1)
    1.5
    """
    if not np.isfinite(eigenvalues).all():
        return math.nan
    ascending = np.sort(eigenvalues[eigenvalues > ZERO * eigenvalues.max(initial=0.0)])
    tail = ascending.size // 2
    if tail == 0:
        return math.nan
    total = float(np.log(ascending[-tail:] / ascending[-tail - 1]).sum())
    return 1.0 + tail / total if tail < (FLAT - 1.0) * total else math.nan


def cosine(product: Any, norm: Any, last_norm: Any) -> Any:
    """Cosine of the angle between two gradients, from their inner product and norms; 0 if one is zero."""
    return product / (np.maximum(norm, 1e-8) * np.maximum(last_norm, 1e-8))


def update_ratio(moved: Array, sizes: Array, matrices: Array) -> Array:
    """Geometric mean over the weight matrices of |update| / |parameters|: (...), NaN where nothing moved.

    Matrix by matrix, as an embedding may hold most of what a model weighs and hardly move; vectors are left out,
    as many of them begin at zero. A model without a matrix is taken as one vector.

    Args:
        moved: (P, ...) norm of each parameter's update.
        sizes: (P, ...) norm of each parameter before it.
        matrices: (P,) which of them have at least two dimensions.
    """
    if matrices.any():
        moved, sizes = moved[matrices], sizes[matrices]
    else:
        moved, sizes = np.sqrt((moved**2).sum(axis=0))[None], np.sqrt((sizes**2).sum(axis=0))[None]
    known = (moved > 0) & (sizes > 0) & np.isfinite(moved) & np.isfinite(sizes)
    logs = np.log(np.where(known, moved, 1.0)) - np.log(np.where(known, sizes, 1.0))
    count = known.sum(axis=0)
    return np.where(count > 0, np.exp(logs.sum(axis=0) / np.maximum(count, 1)), np.nan)


def summarise(
    spec: RunSpec,
    step: Array,
    decision: Array,
    *,
    losses: Array,
    grad_norms: Array,
    update_ratios: Array,
    grad_agreements: Array,
    bucket_loss: Array,
    validation_loss: Array,
    group_alpha: Array | None = None,
    group_rotations: Array | None = None,
) -> Window:
    """The `Window` of R runs from series over its steps.

    Args:
        spec: the runs.
        step: (R,) steps done so far.
        decision: (R,) index of the decision now due.
        losses: (R, W) loss of each step; NaN where not measured, +inf where not finite.
        grad_norms: (R, W) gradient norm of each step; NaN where not sampled. Likewise
            update_ratios, see `update_ratio`, and grad_agreements, the cosine with the step before.
        bucket_loss: (R, K) mean loss of the examples drawn from each bucket; NaN where none was.
        validation_loss: (R,) latest validation loss; NaN where none was reported.
        group_alpha: (R, G) exponents of the weight spectra at the window's end; NaN for groups without a matrix.
            None where a host was not asked for it.
        group_rotations: (R, G, W) cosine distance that each step turned a group's matrices by; NaN where not
            sampled. None as above.
    """
    nonfinite = np.isposinf(losses).sum(axis=1)
    loss, slope, noise = _line(losses)
    log_grad = _log_positive(grad_norms)
    grad_mean = mean_of_known(log_grad)
    return Window(
        spec=spec,
        step=step,
        decision=decision,
        loss=loss,
        loss_slope=slope,
        loss_noise=noise,
        grad_norm=np.exp(grad_mean),
        grad_spread=np.sqrt(mean_of_known((log_grad - grad_mean[:, None]) ** 2)),
        update_ratio=np.exp(mean_of_known(_log_positive(update_ratios))),
        grad_agreement=mean_of_known(grad_agreements),
        bucket_loss=bucket_loss,
        validation_loss=validation_loss,
        nonfinite=nonfinite,
        alarm=np.zeros(spec.num_runs, dtype=bool),
        group_alpha=group_alpha,
        group_rotation=None if group_rotations is None else mean_of_known(group_rotations),
    )


def _line(losses: Array) -> tuple[Array, Array, Array]:
    """Mean, relative slope over the window and relative residual deviation of a least-squares line.

    With fewer than three losses a line says nothing of noise: the slope is 0 and the noise NaN.
    """
    known = np.isfinite(losses)
    count = known.sum(axis=1)
    values = np.where(known, losses, 0.0)
    mean = np.where(count > 0, values.sum(axis=1) / np.maximum(count, 1), np.nan)
    # Where some loss was not finite, neither is the mean: the run has diverged in this window.
    mean = np.where(np.isposinf(losses).any(axis=1), np.inf, mean)

    offset = np.arange(losses.shape[1], dtype=np.float64)
    centre = np.where(known, offset, 0.0).sum(axis=1) / np.maximum(count, 1)
    time = np.where(known, offset - centre[:, None], 0.0)
    span = time.max(axis=1) - time.min(axis=1)
    usable = (count >= 3) & np.isfinite(mean)
    centred = np.where(known & usable[:, None], values - np.where(usable, mean, 0.0)[:, None], 0.0)
    variance = np.where(usable, (time**2).sum(axis=1), 1.0)
    slope = (time * centred).sum(axis=1) / variance
    residual = np.where(known & usable[:, None], centred - slope[:, None] * time, 0.0)
    deviation = np.sqrt((residual**2).sum(axis=1) / np.maximum(count - 2, 1))
    scale = np.where(usable, np.maximum(np.abs(mean), 1e-12), 1.0)
    return mean, np.where(usable, slope * span / scale, 0.0), np.where(usable, deviation / scale, np.nan)


def _log_positive(values: Array) -> Array:
    """Natural log of the finite values, zeros lifted to 1e-12; NaN elsewhere."""
    usable = np.isfinite(values)
    return np.where(usable, np.log(np.maximum(np.where(usable, values, 1.0), 1e-12)), np.nan)


def mean_of_known(values: Array) -> Array:
    """Mean over the known entries along the last axis; NaN, without a warning, where there are none."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
