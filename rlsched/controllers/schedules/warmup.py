"""A linear warm-up before another schedule."""

from __future__ import annotations

from dataclasses import dataclass

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop, check_schedule
from rlsched.controllers.schedules.phases import phase


@dataclass(frozen=True)
class Warmup(OpenLoop):
    """Another schedule, times a linear rise from `start` over the first `share` of the run: `min(1, p / share)`.

    With `rest` the other schedule begins where the rise ends, as in transformers, and so at its peak. Of a model
    that was trained before, `Warmup(Cosine(0.1), 0.01, start=0.1, rest=True)` re-warms the learning rate from
    where it ended; for a new corpus within a run there is `Rewarm`.

    Source: Goyal et al. 2017, Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour, arXiv:1706.02677.

    Attributes:
        schedule: the other one.
        share: of the run, in (0, 1].
        start: multiplier at first, in [0, 1].
        rest: whether the other schedule is over the rest of the run, rather than the whole of it.

    >>> import numpy as np
    >>> from rlsched import Constant, Linear
    >>> Warmup(Constant(), 0.1).profile(np.array([0.0, 0.05, 0.1, 1.0])).round(9).tolist()
    [0.0, 0.5, 1.0, 1.0]
    >>> Warmup(Linear(), 0.2, rest=True).profile(np.array([0.0, 0.1, 0.2, 0.6, 1.0])).round(9).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    schedule: OpenLoop
    share: float = 0.05
    start: float = 0.0
    rest: bool = False

    def __post_init__(self) -> None:
        check_schedule("schedule", self.schedule)
        _check.real("share", self.share, 1e-6, 1.0)
        _check.real("start", self.start, 0.0, 1.0)

    def profile(self, progress: Array) -> Array:
        rise = self.start + (1.0 - self.start) * phase(progress, 0.0, self.share)
        return rise * self.schedule.profile(phase(progress, self.share, 1.0) if self.rest else progress)
