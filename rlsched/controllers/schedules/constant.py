"""The base learning rate throughout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop


@dataclass(frozen=True)
class Constant(OpenLoop):
    """The base learning rate throughout.

    >>> Constant().profile(np.array([0.0, 0.5, 1.0])).tolist()
    [1.0, 1.0, 1.0]
    """

    def profile(self, progress: Array) -> Array:
        return np.ones_like(progress)
