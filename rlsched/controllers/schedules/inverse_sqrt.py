"""Inverse square root decay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop


@dataclass(frozen=True)
class InverseSqrt(OpenLoop):
    """Linear warm-up, then decay by the inverse square root: `min(p / warmup, sqrt(warmup / p))`.

    The base learning rate is the peak. It does not come near zero: the end is at `sqrt(warmup)`.

    Source: Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762;
        transformers.get_inverse_sqrt_schedule.
    Deviation: the warm-up is a share of the run, not a number of steps.

    Attributes:
        warmup: share of the run, in (0, 1].

    >>> InverseSqrt(0.04).profile(np.array([0.0, 0.02, 0.04, 0.16, 1.0])).round(9).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.2]
    """

    warmup: float = 0.05

    def __post_init__(self) -> None:
        _check.real("warmup", self.warmup, 1e-6, 1.0)

    def profile(self, progress: Array) -> Array:
        return np.minimum(progress / self.warmup, 1.0) * np.sqrt(self.warmup / np.maximum(progress, self.warmup))
