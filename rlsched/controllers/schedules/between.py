"""Any scalar between two values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop, check_schedule


@dataclass(frozen=True)
class Between(OpenLoop):
    """A scalar that follows a schedule from one value to another: `end + (start - end) * profile(p)`.

    Whatever a training loop reads anew at each step can be scheduled so: a masking rate, the batch size, momentum,
    Adam's beta2, weight decay. Masked language models gain by a masking rate that falls from 30 % to 15 %:

        masking = Between(Linear(), start=0.30, end=0.15)
        for step in range(num_steps):
            collator.mlm_probability = masking.at(step, num_steps)

    As a controller it is the schedule with a floor, relative to the base learning rate.

    Source: Ankner et al. 2024, Dynamic Masking Rate Schedules for MLM Pretraining, arXiv:2305.15096.

    Attributes:
        schedule: of its profile.
        start: value where the profile is 1, as most are at first; at least 0.
        end: value where it is 0; at least 0.

    >>> from rlsched import Cosine, Linear
    >>> Between(Linear(), 0.30, 0.15).profile(np.array([0.0, 0.5, 1.0])).round(9).tolist()
    [0.3, 0.225, 0.15]
    >>> Between(Cosine(), 32.0, 256.0).at(step=50, num_steps=100)
    144.0
    """

    schedule: OpenLoop
    start: float
    end: float

    def __post_init__(self) -> None:
        check_schedule("schedule", self.schedule)
        _check.real("start", self.start, 0.0)
        _check.real("end", self.end, 0.0)

    def profile(self, progress: Array) -> Array:
        share = self.schedule.profile(progress)
        return self.start * share + self.end * (1.0 - share)

    def at(self, step: int, num_steps: int) -> float:
        """The value at optimizer step `step`, from 0, of a run of `num_steps`; the last one beyond its end."""
        num_steps = _check.integer("num_steps", num_steps, 1)
        step = _check.integer("step", step, 0)
        return float(self.profile(np.array(min(step / num_steps, 1.0))))
