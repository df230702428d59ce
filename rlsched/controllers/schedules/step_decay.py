"""Decay by steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.controllers.schedules.phases import EDGE, begun


@dataclass(frozen=True)
class StepDecay(OpenLoop):
    """Constant between milestones, at each of which it is multiplied: `factor ^ (milestones passed)`.

    It is torch's `MultiStepLR`, and with `every` its `StepLR`, as functions of progress.

    Source: torch.optim.lr_scheduler.MultiStepLR; He et al. 2016, Deep Residual Learning for Image Recognition,
        arXiv:1512.03385.

    Attributes:
        milestones: progress at which it drops, increasing, each in (0, 1).
        factor: at each of them, in [0, 1].

    >>> StepDecay((0.5, 0.75)).profile(np.array([0.0, 0.5, 0.75, 1.0])).round(9).tolist()
    [1.0, 0.1, 0.01, 0.01]
    """

    milestones: Sequence[float] = (0.5, 0.75)
    factor: float = 0.1

    def __post_init__(self) -> None:
        times = _check.vector("milestones", self.milestones, "They are shares of the run, such as (0.5, 0.75).")
        if (np.diff(times, prepend=0.0, append=1.0) <= EDGE).any():
            raise _check.ArgumentError(
                f"milestones must increase, each in (0, 1), got {times.tolist()}: give shares of the run."
            )
        object.__setattr__(self, "milestones", tuple(times.tolist()))
        _check.real("factor", self.factor, 0.0, 1.0)

    @classmethod
    def every(cls, interval: float, factor: float = 0.1) -> StepDecay:
        """Drops each time `interval`, a share of the run in (0, 1), has passed.

        >>> StepDecay.every(0.25, 0.5).milestones
        (0.25, 0.5, 0.75)
        """
        interval = _check.real("interval", interval, 1e-6, 1.0 - 1e-6)
        return cls(tuple(i * interval for i in range(1, math.ceil(1.0 / interval - EDGE))), factor)

    def profile(self, progress: Array) -> Array:
        passed = np.zeros_like(progress, dtype=np.float64)
        for time in self.milestones:
            passed += begun(progress, time)
        return self.factor**passed
