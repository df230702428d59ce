"""The unified budget-aware schedule."""

from __future__ import annotations

from dataclasses import dataclass

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.controllers.schedules.phases import FALLS


@dataclass(frozen=True)
class UBA(OpenLoop):
    """Unified budget-aware schedule, `2 (1 + c) / (2 phi + (2 - phi) (1 + c))` with `c = cos(pi p)`.

    One parameter spans the usual schedules: constant as `phi` goes to 0, cosine at 2, and a fall early in the run
    for more. The paper ties it to the condition number of the problem.

    Source: Tang et al. 2025, Stepsize anything: A unified learning rate schedule for budgeted-iteration training,
        arXiv:2505.24452.
    Deviation: one decay to zero. The paper's text was not at hand: the formula is as it is cited elsewhere, with
        its limits checked, and the default is ours.

    Attributes:
        phi: in [1e-6, 1e6].

    >>> import numpy as np
    >>> UBA(1.0).profile(np.array([0.0, 0.5, 1.0])).round(9).tolist()
    [1.0, 0.666666667, 0.0]
    """

    phi: float = 1.0

    def __post_init__(self) -> None:
        _check.real("phi", self.phi, 1e-6, 1e6)

    def profile(self, progress: Array) -> Array:
        height = FALLS["cosine"](progress)
        return 2.0 * height / (self.phi + (2.0 - self.phi) * height)
