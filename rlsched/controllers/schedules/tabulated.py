"""A schedule given by its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop, check_schedule


@dataclass(frozen=True)
class Tabulated(OpenLoop):
    """Values at evenly spaced progress: the i-th of n holds at `i / n`.

    A run of n steps takes exactly these values, one a step; a run of another length reads between them. What laws
    fit or compute is returned as one.

    Attributes:
        values: n multipliers of the base learning rate, at least one, each >= 0; kept as a tuple of floats.
        smooth: whether the schedule is a straight line between two values, or holds each until the next. After the
            last one it is constant either way.

    >>> table = Tabulated([1.0, 0.5])
    >>> table.profile(np.array([0.0, 0.25, 0.5, 1.0])).tolist()
    [1.0, 0.75, 0.5, 0.5]
    >>> Tabulated(table.values, smooth=False).profile(np.array([0.0, 0.25, 0.5, 1.0])).tolist()
    [1.0, 1.0, 0.5, 0.5]
    """

    values: Sequence[float] | Array
    smooth: bool = True

    def __post_init__(self) -> None:
        values = _check.vector("values", self.values)
        if (values < 0).any():
            raise _check.ArgumentError(
                f"values must be >= 0, got {values.min()}: a negative learning rate climbs the loss."
            )
        if not isinstance(self.smooth, bool):
            raise TypeError(f"smooth must be True or False, got {self.smooth!r}.")
        object.__setattr__(self, "values", tuple(values.tolist()))

    def profile(self, progress: Array) -> Array:
        values = np.array(self.values)
        position = np.asarray(progress, dtype=float) * len(values)
        if self.smooth:
            return np.interp(position, np.arange(len(values)), values)
        # t / T * T can fall just short of t.
        index = np.floor(position + 1e-9).astype(np.int64)
        return np.asarray(values[np.clip(index, 0, len(values) - 1)])

    @classmethod
    def of(cls, schedule: OpenLoop, num_steps: int) -> Tabulated:
        """The values that `schedule` takes in a run of `num_steps` steps."""
        check_schedule("schedule", schedule)
        num_steps = _check.integer("num_steps", num_steps, 1)
        return cls(schedule.profile(np.arange(num_steps) / num_steps))
