"""A profile sampled now and then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop, check_schedule
from rlsched.controllers.schedules.phases import EDGE


@dataclass(frozen=True)
class Sampled(OpenLoop):
    """Another schedule, sampled at the start of each of n equal stretches and held: `f(floor(n p) / n)`.

    A profile and the rate at which it is sampled are separate choices: a decay by steps is a profile sampled three
    times, a schedule by epochs one sampled once an epoch. Unwrapped, a schedule is sampled at every step.

    Source: Chen et al. 2021, REX: Revisiting Budgeted Training with an Improved Schedule, arXiv:2107.04197.

    Attributes:
        schedule: the other one.
        num_samples: n, at least 1.

    >>> from rlsched import Linear
    >>> Sampled(Linear(), 4).profile(np.array([0.0, 0.2, 0.25, 0.7, 1.0])).tolist()
    [1.0, 1.0, 0.75, 0.5, 0.0]
    """

    schedule: OpenLoop
    num_samples: int

    def __post_init__(self) -> None:
        check_schedule("schedule", self.schedule)
        _check.integer("num_samples", self.num_samples, 1)

    def profile(self, progress: Array) -> Array:
        return self.schedule.profile(np.floor(self.num_samples * progress + EDGE) / self.num_samples)
