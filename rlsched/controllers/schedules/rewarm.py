"""Re-warming for each new corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop, check_schedule
from rlsched.controllers.schedules.phases import EDGE, begun, phase


@dataclass(frozen=True)
class Rewarm(OpenLoop):
    """For each of several corpora a linear warm-up, from where the last one ended, and then a schedule.

    A learning rate that has decayed learns little of new data: it has to rise again, at the price of forgetting
    some of the old. On each corpus it rises over `share` of the time there from its last value to its peak and
    then follows the schedule, `peak * profile`, to the end of the corpus. One that only goes on decaying, from the
    last run's final rate to a hundredth of it, is `Cosine(final=0.01)` on that rate as the base.

    Source: Gupta et al. 2023, Continual Pre-Training of Large Language Models: How to (re)warm your model?,
        arXiv:2308.04014; Ibrahim et al. 2024, Simple and Scalable Strategies to Continually Pre-train Large
        Language Models, arXiv:2403.08763; Parmar et al. 2024, Reuse, Don't Retrain, arXiv:2407.07263.

    Attributes:
        schedule: over each corpus after its warm-up, such as `Cosine(0.1)`.
        begins: progress at which each corpus after the first begins, increasing, each in (0, 1).
        share: of the time on a corpus that its warm-up takes, in [0, 1]; 0 is a restart.
        peak: multiple of the base learning rate on corpora after the first, in [0, 1].
        start: multiple of it before the run: 0, or where an earlier run ended, in [0, 1].

    >>> from rlsched import Linear
    >>> schedule = Rewarm(Linear(), (0.5,), share=0.2, peak=0.5)
    >>> schedule.profile(np.array([0.0, 0.05, 0.1, 0.3, 0.5, 0.55, 0.6, 0.8, 1.0])).round(9).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25, 0.0]
    """

    schedule: OpenLoop
    begins: Sequence[float] = (0.5,)
    share: float = 0.01
    peak: float = 1.0
    start: float = 0.0

    def __post_init__(self) -> None:
        check_schedule("schedule", self.schedule)
        times = _check.vector("begins", self.begins, "With one corpus, use Warmup(schedule, rest=True).")
        if (np.diff(times, prepend=0.0, append=1.0) <= EDGE).any():
            raise _check.ArgumentError(
                f"begins must increase, each in (0, 1), got {times.tolist()}: the first corpus begins at 0."
            )
        object.__setattr__(self, "begins", tuple(times.tolist()))
        _check.real("share", self.share, 0.0, 1.0)
        _check.real("peak", self.peak, 0.0, 1.0)
        _check.real("start", self.start, 0.0, 1.0)

    def profile(self, progress: Array) -> Array:
        first, last = self.schedule.profile(np.array([0.0, 1.0]))
        value, level, peak = np.zeros_like(progress, dtype=np.float64), self.start, 1.0
        for begin, end in zip((0.0, *self.begins), (*self.begins, 1.0), strict=True):
            within = phase(progress, begin, end)
            warm = phase(within, 0.0, self.share)
            planned = self.schedule.profile(phase(within, self.share, 1.0))
            now = np.where(warm < 1.0, level + (peak * first - level) * warm, peak * planned)
            value = np.where(begun(progress, begin), now, value)
            level, peak = peak * last, self.peak
        return value
