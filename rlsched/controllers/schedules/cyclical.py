"""Cyclical learning rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.controllers.schedules.phases import EDGE, phase

MODES = ("triangular", "triangular2", "exp_range")


@dataclass(frozen=True)
class Cyclical(OpenLoop):
    """Triangles between `low` and the base learning rate: `low + (1 - low) * height * amplitude`.

    In each cycle the height rises linearly from 0 to 1 and falls again. The amplitude is

        triangular: 1    triangular2: 2^-k, k the cycles before this one    exp_range: decay^p

    Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks, arXiv:1506.01186;
        torch.optim.lr_scheduler.CyclicLR.
    Deviation: cycles and decay are relative to the run's length; torch's `gamma` is `decay^(1/T)` for T steps.

    Attributes:
        num_cycles: whole cycles in the run, at least 1.
        low: lower bound as a multiple of the base learning rate, in [0, 1].
        mode: "triangular", "triangular2" or "exp_range".
        decay: amplitude at the end of the run in the mode exp_range, in [1e-9, 1].
        rise: share of each cycle in which the learning rate rises, in [0, 1].

    >>> Cyclical(2, low=0.2).profile(np.array([0.0, 0.25, 0.5, 0.75, 1.0])).round(9).tolist()
    [0.2, 1.0, 0.2, 1.0, 0.2]
    >>> Cyclical(2, low=0.2, mode="triangular2").profile(np.array([0.25, 0.75])).round(9).tolist()
    [1.0, 0.6]
    """

    num_cycles: int = 4
    low: float = 0.1
    mode: str = "triangular"
    decay: float = 0.1
    rise: float = 0.5

    def __post_init__(self) -> None:
        _check.integer("num_cycles", self.num_cycles, 1)
        _check.real("low", self.low, 0.0, 1.0)
        _check.choice("mode", self.mode, MODES)
        _check.real("decay", self.decay, 1e-9, 1.0)
        _check.real("rise", self.rise, 0.0, 1.0)

    def profile(self, progress: Array) -> Array:
        cycles = self.num_cycles * progress
        cycle = np.minimum(np.floor(cycles + EDGE), self.num_cycles - 1)
        within = cycles - cycle
        height = np.minimum(phase(within, 0.0, self.rise), 1.0 - phase(within, self.rise, 1.0))
        if self.mode == "triangular2":
            height = height * 0.5**cycle
        elif self.mode == "exp_range":
            height = height * self.decay**progress
        return self.low + (1.0 - self.low) * height
