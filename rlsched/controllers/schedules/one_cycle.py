"""The 1cycle policy."""

from __future__ import annotations

from dataclasses import dataclass

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.controllers.schedules.phases import FALLS, through


@dataclass(frozen=True)
class OneCycle(OpenLoop):
    """One cycle: from `start` up to the base learning rate over the first `rise` of the run, then down to `final`.

    The base learning rate is the peak. Momentum, which cycles the other way, is another scalar under the same
    profile with both ends at zero: `Between(OneCycle(start=0.0, final=0.0), 0.85, 0.95)` falls from 0.95 to 0.85
    and rises again.

    Source: Smith and Topin 2018, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
        Rates, arXiv:1708.07120; torch.optim.lr_scheduler.OneCycleLR.
    Deviation: the last level is reached at the end of the run; torch reaches it one step earlier.

    Attributes:
        rise: share of the run until the peak, in [0, 1]; at most 0.5 in three phases.
        start: multiple of the base learning rate at first, in [0, 1].
        final: multiple of it at the end, in [0, 1].
        anneal: from one level to the next, "cosine" or "linear".
        three_phase: whether the fall takes as long as the rise and ends where that began, before a last phase to
            `final`, as in the paper.

    >>> import numpy as np
    >>> cycle = OneCycle(0.4, start=0.2, final=0.0, anneal="linear")
    >>> cycle.profile(np.array([0.0, 0.2, 0.4, 0.7, 1.0])).round(9).tolist()
    [0.2, 0.6, 1.0, 0.5, 0.0]
    """

    rise: float = 0.3
    start: float = 0.04
    final: float = 4e-6
    anneal: str = "cosine"
    three_phase: bool = False

    def __post_init__(self) -> None:
        most = 0.5 if self.three_phase else 1.0
        _check.real("rise", self.rise, 0.0, most, "In three phases the fall is as long." if most < 1 else "")
        _check.real("start", self.start, 0.0, 1.0)
        _check.real("final", self.final, 0.0, 1.0)
        _check.choice("anneal", self.anneal, ("cosine", "linear"))

    def profile(self, progress: Array) -> Array:
        knots = [(0.0, self.start), (self.rise, 1.0), (1.0, self.final)]
        if self.three_phase:
            knots.insert(2, (2.0 * self.rise, self.start))
        return through(progress, knots, FALLS[self.anneal])
