"""Cosine decay."""

from __future__ import annotations

from dataclasses import dataclass

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.controllers.schedules.phases import FALLS


@dataclass(frozen=True)
class Cosine(OpenLoop):
    """Cosine decay to zero or to a floor, `final + (1 - final) (1 + cos(pi p)) / 2`.

    Language models are commonly trained to `final` = 0.1.

    Source: Loshchilov and Hutter 2017, SGDR: Stochastic Gradient Descent with Warm Restarts, arXiv:1608.03983.
    Deviation: without the restarts, for which there is `MultiplicativeCycles`.

    Attributes:
        final: multiple of the base learning rate at the end, in [0, 1].

    >>> import numpy as np
    >>> Cosine().profile(np.array([0.0, 0.5, 1.0])).round(9).tolist()
    [1.0, 0.5, 0.0]
    >>> Cosine(0.1).profile(np.array([0.0, 0.5, 1.0])).round(9).tolist()
    [1.0, 0.55, 0.1]
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        _check.real("final", self.final, 0.0, 1.0)

    def profile(self, progress: Array) -> Array:
        return self.final + (1.0 - self.final) * FALLS["cosine"](progress)
