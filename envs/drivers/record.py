"""What a driver's final run does, noted as it goes."""

from __future__ import annotations

import math

import numpy as np

from rlsched.envs.drivers.driver import Driven


class Record:
    """The windows of a run, for a `Driven`."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._lr: list[float] = []
        self._validation: list[float] = []

    def window(self, step: int, lr: float, validation: float) -> bool:
        """Note a window that ended at `step` and began at `lr`; whether its validation loss is finite."""
        self._steps.append(step)
        self._lr.append(lr)
        self._validation.append(validation if math.isfinite(validation) else math.inf)
        return math.isfinite(validation)

    def driven(self, test: float, spent: int) -> Driven:
        """All windows, with the test loss of the result, which counts if the last validation loss is finite."""
        sound = math.isfinite(self._validation[-1]) and math.isfinite(test)
        return Driven(
            np.array(self._steps),
            np.array(self._lr),
            np.array(self._validation),
            test if sound else math.inf,
            spent,
        )
