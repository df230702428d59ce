"""Means over tasks, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched.contract import Array

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95 % interval."""

    value: float
    low: float
    high: float


def mean_by_student(values: Array) -> Estimate:
    """Mean of (S,) values and its 95 % interval by Student's t, which is NaN with one value.

    >>> found = mean_by_student(np.array([1.0, 2.0, 3.0]))
    >>> round(found.value, 6), round(found.high, 3)
    (2.0, 4.484)
    """
    from scipy.stats import t

    count, mean = len(values), float(values.mean())
    if count < 2:
        return Estimate(mean, float("nan"), float("nan"))
    half = float(t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
    return Estimate(mean, mean - half, mean + half)


def mean_over_tasks(values: Array, strata: Array, groups: Array) -> Estimate:
    """Mean of (n, S) values of n tasks from S seeds each; see `_estimate`."""
    return _estimate(values, strata, groups, trim=0.0)


def interquartile_mean(values: Array, strata: Array, groups: Array) -> Estimate:
    """Mean of the middle half of the tasks, each by its mean over seeds (Agarwal et al. 2021, arXiv:2108.13264).

    Values as for `mean_over_tasks`.
    """
    return _estimate(values, strata, groups, trim=0.25)


def trimmed_mean(values: Array, weights: Array, trim: float) -> Array:
    """(...,) weighted mean of values (..., n) less a share `trim` of the weight at either end.

    >>> trimmed_mean(np.array([-9.0, 1.0, 2.0, 9.0]), np.ones(4), 0.25)
    array(1.5)
    """
    order = np.argsort(values, axis=-1)
    sorted_values = np.take_along_axis(values, order, axis=-1)
    after = np.cumsum(np.take_along_axis(weights, order, axis=-1), axis=-1)
    before = np.concatenate([np.zeros_like(after[..., :1]), after[..., :-1]], axis=-1)
    total = after[..., -1:]
    kept = np.clip(np.minimum(after, (1.0 - trim) * total) - np.maximum(before, trim * total), 0.0, None)
    mean: Array = (kept * sorted_values).sum(axis=-1) / kept.sum(axis=-1)
    return np.asarray(mean)


def _estimate(values: Array, strata: Array, groups: Array, trim: float) -> Estimate:
    """The statistic, and percentiles of a stratified bootstrap.

    Groups of tasks (n,) are drawn whole within each stratum (n,), as tasks of a group have much in common; then
    seeds within each task; both with replacement.
    """
    rng = np.random.default_rng(0)
    tasks, seeds = values.shape
    weights = np.zeros((RESAMPLES, tasks))
    for stratum in np.unique(strata):
        members, of = np.unique(groups[strata == stratum], return_inverse=True)
        counts = rng.multinomial(len(members), np.full(len(members), 1.0 / len(members)), size=RESAMPLES)
        weights[:, strata == stratum] = counts[:, of]
    chosen = rng.integers(seeds, size=(RESAMPLES, tasks, seeds))
    own = values.mean(axis=1)
    by_seeds = values[np.arange(tasks)[:, None], chosen].mean(axis=2) - own
    # A task that is drawn w times draws its seeds w times, whose mean varies less by the root of w.
    resampled = own + by_seeds / np.sqrt(np.maximum(weights, 1.0))
    low, high = np.quantile(trimmed_mean(resampled, weights, trim), [0.025, 0.975])
    value = trimmed_mean(own, np.ones(tasks), trim)
    return Estimate(float(value), float(low), float(high))
