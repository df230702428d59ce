"""Cycles whose periods grow by a factor."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.cosine import Cosine
from rlsched.controllers.schedules.open_loop import OpenLoop, check_schedule
from rlsched.controllers.schedules.phases import begun, phase


@dataclass(frozen=True)
class MultiplicativeCycles(OpenLoop):
    """A schedule over and over, each cycle `factor` times as long as the one before; the last ends with the run.

    At the end of each cycle the learning rate is at its minimum, and the model about as good as one of a run of
    that length: evaluated there (`ends`), one run traces the curve of quality against training time. With the
    cosine, these are SGDR's warm restarts, torch's `CosineAnnealingWarmRestarts`.

    Source: Portes et al. 2022, Fast Benchmarking of Accuracy vs. Training Time with Cyclic Learning Rates,
        arXiv:2206.00832; Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983.
    Deviation: no warm-up, for which there is `Warmup`; the first paper's text was not at hand beyond its abstract.

    Attributes:
        num_cycles: in the run, in [1, 64].
        factor: of one cycle's length over the one before, in [1, 10].
        schedule: of one cycle.

    >>> cycles = MultiplicativeCycles(3, factor=2.0)
    >>> cycles.profile(np.array([0.0, 1 / 14, 1 / 7, 2 / 7, 3 / 7, 5 / 7, 1.0])).round(9).tolist()
    [1.0, 0.5, 1.0, 0.5, 1.0, 0.5, 0.0]
    >>> [round(7 * end, 9) for end in cycles.ends]
    [1.0, 3.0, 7.0]
    """

    num_cycles: int = 4
    factor: float = 2.0
    schedule: OpenLoop = field(default_factory=Cosine)

    def __post_init__(self) -> None:
        _check.integer("num_cycles", self.num_cycles, 1, 64)
        _check.real("factor", self.factor, 1.0, 10.0)
        check_schedule("schedule", self.schedule)
        if self.ends[0] < 1e-6:
            raise _check.ArgumentError(
                f"factor must leave the first of {self.num_cycles} cycles 1e-6 of the run or more, got "
                f"{self.factor}: lower it, or num_cycles."
            )

    @property
    def ends(self) -> tuple[float, ...]:
        """Progress at the end of each cycle, where the model is worth evaluating; the last is 1."""
        lengths = float(self.factor) ** np.arange(self.num_cycles)
        return tuple((np.cumsum(lengths) / lengths.sum()).tolist())

    def profile(self, progress: Array) -> Array:
        value = np.zeros_like(progress, dtype=np.float64)
        for start, end in zip((0.0, *self.ends[:-1]), self.ends, strict=True):
            value = np.where(begun(progress, start), self.schedule.profile(phase(progress, start, end)), value)
        return value
