"""Warm-up, stable, decay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop


@dataclass(frozen=True)
class WSD(OpenLoop):
    """Constant, then linear decay to zero over the last `cooldown` of the run: `min(1, (1 - p) / cooldown)`.

    Source: Hu et al. 2024, MiniCPM, arXiv:2404.06395.
    Deviation: without the warm-up, for which there is `Warmup`.

    Attributes:
        cooldown: share of the run, in (0, 1].

    >>> WSD(0.2).profile(np.array([0.0, 0.8, 0.9, 1.0])).round(9).tolist()
    [1.0, 1.0, 0.5, 0.0]
    """

    cooldown: float = 0.2

    def __post_init__(self) -> None:
        _check.real("cooldown", self.cooldown, 1e-6, 1.0)

    def profile(self, progress: Array) -> Array:
        return np.minimum(1.0, (1.0 - progress) / self.cooldown)
