"""Means over tasks, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import trim_mean

from rlsched.contract import Array

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95 % interval."""

    value: float
    low: float
    high: float


def mean_over_tasks(values: Array, strata: Array) -> Estimate:
    """Mean of (n, S) values of n tasks from S seeds each; see `_estimate`."""
    return _estimate(values, strata, trim=0.0)


def interquartile_mean(values: Array, strata: Array) -> Estimate:
    """Mean of the middle half of the tasks, each by its mean over seeds (Agarwal et al. 2021, arXiv:2108.13264).

    Values as for `mean_over_tasks`.
    """
    return _estimate(values, strata, trim=0.25)


def _estimate(values: Array, strata: Array, trim: float) -> Estimate:
    """The statistic, and percentiles of a stratified bootstrap.

    Tasks are drawn within each stratum (n,), and then seeds within each task, both with replacement.
    """
    rng = np.random.default_rng(0)
    tasks, seeds = values.shape
    drawn = np.zeros((RESAMPLES, tasks), dtype=int)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        drawn[:, members] = rng.choice(members, (RESAMPLES, len(members)))
    chosen = rng.integers(seeds, size=(RESAMPLES, tasks, seeds))
    resampled = values[drawn[:, :, None], chosen].mean(axis=2)
    low, high = np.quantile(trim_mean(resampled, trim, axis=1), [0.025, 0.975])
    return Estimate(float(trim_mean(values.mean(axis=1), trim)), float(low), float(high))
