"""Warm-up, stable, decay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.controllers.schedules.phases import FALLS, begun, phase

SHAPES = {name: FALLS[name] for name in ("linear", "1-sqrt", "cosine", "square")} | {
    "lowered-linear": lambda x: 0.7 * (1.0 - x)
}
"""Name of a shape -> the multiplier where a share x of the cooldown is done."""


@dataclass(frozen=True)
class WSD(OpenLoop):
    """Constant, then decay to zero over the last `cooldown` of the run: `1 - x` if linear, x the share of it done.

    The other shapes:

        1-sqrt: 1 - sqrt(x)    cosine: (1 + cos(pi x)) / 2    square: 1 - x^2    lowered-linear: 0.7 (1 - x)

    The lowered line drops to 0.7 at once. 1-sqrt and lowered-linear were the best of them. Adam's settings matter
    about as much as the shape, and a higher beta2 in the cooldown helps; it is a scalar with a schedule of its
    own, here 0.95 and then 0.99: `Between(StepDecay((0.8,), factor=0.0), 0.95, 0.99)`.

    Source: Hu et al. 2024, MiniCPM, arXiv:2404.06395; Dremov et al. 2025, Training Dynamics of the Cooldown Stage
        in Warmup-Stable-Decay Learning Rate Scheduler, arXiv:2508.01483.
    Deviation: without the warm-up, for which there is `Warmup`. The shapes are those of the authors' code; which
        were best is as reported by others, for want of the second paper's text.

    Attributes:
        cooldown: share of the run, in (0, 1].
        shape: "linear", "1-sqrt", "cosine", "square" or "lowered-linear".

    >>> WSD(0.2).profile(np.array([0.0, 0.8, 0.9, 1.0])).round(9).tolist()
    [1.0, 1.0, 0.5, 0.0]
    >>> WSD(0.4, "lowered-linear").profile(np.array([0.0, 0.6, 0.8, 1.0])).round(9).tolist()
    [1.0, 0.7, 0.35, 0.0]
    """

    cooldown: float = 0.2
    shape: str = "linear"

    def __post_init__(self) -> None:
        _check.real("cooldown", self.cooldown, 1e-6, 1.0)
        _check.choice("shape", self.shape, SHAPES)

    def profile(self, progress: Array) -> Array:
        start = 1.0 - self.cooldown
        return np.where(begun(progress, start), SHAPES[self.shape](phase(progress, start, 1.0)), 1.0)
