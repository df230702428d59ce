"""Cosine decay to zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop


@dataclass(frozen=True)
class Cosine(OpenLoop):
    """Cosine decay to zero, `(1 + cos(pi p)) / 2`.

    Source: Loshchilov and Hutter 2017, SGDR: Stochastic Gradient Descent with Warm Restarts, arXiv:1608.03983.

    >>> Cosine().profile(np.array([0.0, 0.5, 1.0])).round(9).tolist()
    [1.0, 0.5, 0.0]
    """

    def profile(self, progress: Array) -> Array:
        return 0.5 * (1.0 + np.cos(np.pi * progress))
