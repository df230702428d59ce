"""A linear warm-up before another schedule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop


@dataclass(frozen=True)
class Warmup(OpenLoop):
    """Another schedule, times a linear rise from zero over the first `share` of the run: `min(1, p / share)`.

    Attributes:
        schedule: the other one.
        share: of the run, in (0, 1].

    >>> from rlsched import Constant
    >>> Warmup(Constant(), 0.1).profile(np.array([0.0, 0.05, 0.1, 1.0])).round(9).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """

    schedule: OpenLoop
    share: float = 0.05

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, OpenLoop):
            raise TypeError(
                f"schedule must be an open-loop schedule, got {type(self.schedule).__name__}: give for example "
                "Linear()."
            )
        _check.real("share", self.share, 1e-6, 1.0)

    def profile(self, progress: Array) -> Array:
        return np.minimum(1.0, progress / self.share) * self.schedule.profile(progress)
