"""The convex bound of the last iterate as a function of the schedule, and learning rates transferred by it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.controllers.schedules.tabulated import Tabulated


@dataclass(frozen=True)
class ConvexBound:
    """What SGD on a convex loss is sure to reach under a schedule, `E f(x_T) - f* <= Omega_T`.

    With learning rates eta_1 to eta_T, distance D of the start from a minimiser and gradient norms of at most G_t:

        Omega_T = (D^2 + S_1) / (2 H_1) + 1/2 sum_(k=1..T-1) eta_k / H_(k+1) * S_k / H_k
        H_k     = eta_k + ... + eta_T,    S_k = eta_k^2 G_k^2 + ... + eta_T^2 G_T^2

    It falls as 1 / sqrt(T) under linear decay, and as sqrt(ln(T) / T) under a constant learning rate. Of the base
    learning rate gamma it is a / gamma + b gamma, so the best is known in closed form, and the best of one
    schedule and horizon follows from that of another. D, and G if it is constant, cancel in this transfer.

    Source: Schaipp et al. 2025, The Surprising Agreement Between Convex Optimization Theory and Learning-Rate
        Scheduling for Large Model Training, arXiv:2501.18965; the bound is Theorem 10 of Defazio et al. 2023,
        arXiv:2310.07831.
    Deviation: steps of learning rate 0 at the end move nothing and are left out; the bound is infinite with them.

    Attributes:
        distance: D, > 0.
        grad_norm: G, of all steps, or (T,) of each, > 0.

    >>> bound = ConvexBound()
    >>> bound.of([0.5, 0.5])  # (1 + 1/2) / 2 + 1/2 * 1 * 1/2
    1.0
    >>> from rlsched import Constant, Linear
    >>> [round(bound.best_lr(schedule, 100)[1], 4) for schedule in (Constant(), Linear())]
    [0.2485, 0.2036]
    """

    distance: float = 1.0
    grad_norm: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        _check.real("distance", self.distance, 1e-300)
        norms = _check.vector("grad_norm", np.atleast_1d(self.grad_norm))
        if (norms <= 0).any():
            raise _check.ArgumentError(f"grad_norm must be positive, got {norms.min()}.")

    def of(self, lr: npt.ArrayLike) -> float:
        """Omega_T under learning rates (T,)."""
        falling, rising = self._parts(lr)
        return falling + rising

    def best_lr(self, schedule: OpenLoop, num_steps: int) -> tuple[float, float]:
        """The base learning rate at which the bound is lowest in a run of `num_steps` steps, and the bound."""
        falling, rising = self._parts(Tabulated.of(schedule, num_steps).values)
        return math.sqrt(falling / rising), 2.0 * math.sqrt(falling * rising)

    def transfer(self, lr: float, tuned: OpenLoop, tuned_steps: int, target: OpenLoop, target_steps: int) -> float:
        """The base learning rate of `target` for a run of `target_steps` steps, from one that was tuned.

        Args:
            lr: tuned base learning rate, > 0.
            tuned: schedule it was tuned for.
            tuned_steps: steps it was tuned for.
            target: schedule it is wanted for.
            target_steps: steps it is wanted for.
        """
        lr = _check.real("lr", lr, 1e-300)
        return lr * self.best_lr(target, target_steps)[0] / self.best_lr(tuned, tuned_steps)[0]

    def _parts(self, lr: npt.ArrayLike) -> tuple[float, float]:
        """The part of the bound that falls as 1 / gamma with the base learning rate, and the one that rises."""
        rates = _check.vector("lr", lr)
        if (rates < 0).any() or not rates.any():
            raise _check.ArgumentError(
                f"lr must be >= 0 everywhere and > 0 somewhere, got {rates.min()} at least."
            )
        norms = np.atleast_1d(np.asarray(self.grad_norm, dtype=float))
        if len(norms) not in (1, len(rates)):
            raise _check.ArgumentError(
                f"grad_norm must be a number or one for each of {len(rates)} learning rates, got {len(norms)}."
            )
        last = int(np.flatnonzero(rates)[-1]) + 1
        squares = ((rates * norms) ** 2)[:last]
        left, noise = _tails(rates[:last]), _tails(squares)
        rising = noise[0] / left[0] + (rates[: last - 1] / left[1:] * noise[:-1] / left[:-1]).sum()
        return self.distance**2 / (2.0 * float(left[0])), 0.5 * float(rising)


def _tails(values: Array) -> Array:
    """(T,) sums from each entry to the end."""
    return np.asarray(np.cumsum(values[::-1])[::-1])
