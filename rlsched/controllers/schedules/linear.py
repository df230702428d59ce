"""Linear decay to zero."""

from __future__ import annotations

from dataclasses import dataclass

from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop


@dataclass(frozen=True)
class Linear(OpenLoop):
    """Linear decay to zero, `1 - p`.

    Source: Defazio et al. 2023, When, Why and How Much? Adaptive Learning Rate Scheduling by Refinement,
        arXiv:2310.07831; Bergsma et al. 2025, Straight to Zero, arXiv:2502.15938.

    >>> import numpy as np
    >>> Linear().profile(np.array([0.0, 0.25, 1.0])).tolist()
    [1.0, 0.75, 0.0]
    """

    def profile(self, progress: Array) -> Array:
        return 1.0 - progress
