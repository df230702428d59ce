"""Polynomial decay."""

from __future__ import annotations

from dataclasses import dataclass

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop


@dataclass(frozen=True)
class Polynomial(OpenLoop):
    """Polynomial decay, `final + (1 - final) (1 - p)^power`.

    Source: torch.optim.lr_scheduler.PolynomialLR; transformers.get_polynomial_decay_schedule_with_warmup.

    Attributes:
        power: of what is left of the run, in [0.01, 100]; 1 is linear decay.
        final: multiple of the base learning rate at the end, in [0, 1].

    >>> import numpy as np
    >>> Polynomial(2.0, final=0.1).profile(np.array([0.0, 0.5, 1.0])).round(9).tolist()
    [1.0, 0.325, 0.1]
    """

    power: float = 1.0
    final: float = 0.0

    def __post_init__(self) -> None:
        _check.real("power", self.power, 0.01, 100.0)
        _check.real("final", self.final, 0.0, 1.0)

    def profile(self, progress: Array) -> Array:
        return self.final + (1.0 - self.final) * (1.0 - progress) ** self.power
