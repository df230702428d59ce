"""Reflected exponential decay."""

from __future__ import annotations

from dataclasses import dataclass

from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop


@dataclass(frozen=True)
class REX(OpenLoop):
    """Reflected exponential, `(1 - p) / (1/2 + (1 - p) / 2)`.

    The paper takes a schedule apart into this profile and how often it is sampled. REX is its profile, sampled at
    every step; every other pair is `Sampled` around a profile.

    Source: Chen et al. 2021, REX: Revisiting Budgeted Training with an Improved Schedule, arXiv:2107.04197.

    >>> import numpy as np
    >>> REX().profile(np.array([0.0, 0.5, 1.0])).round(6).tolist()
    [1.0, 0.666667, 0.0]
    """

    def profile(self, progress: Array) -> Array:
        return (1.0 - progress) / (0.5 + 0.5 * (1.0 - progress))
