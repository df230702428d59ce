"""The regret-optimal learning rate when the data drift."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.tabulated import Tabulated
from rlsched.laws.convex_drift import check_shifts


@dataclass(frozen=True)
class DriftLaw:
    """SGD on linear regression whose solution moves: `eta_t = v_t / (a v_t + b)`, with v_t the expected error.

    Targets are <x, theta*_t> plus noise of deviation sigma, x a standard normal vector of d entries, and after
    step t the solution moves by a distance delta_t. With batches of B, a = 1 + (d + 1) / B and b = sigma^2 d / B,
    the error v_t = E |theta_t - theta*_t|^2 under any learning rates is

        v_(t+1) = (1 - 2 eta_t + a eta_t^2) v_t + b eta_t^2 + delta_t^2

    and the regret is the sum of v_t / 2. As v_(t+1) grows with v_t, what is best for the next step is best for
    all. Without drift the learning rate falls as 1 / t; under steady drift it settles near delta / sqrt(b), and
    after a jump it rises.

    Source: Fahrbach et al. 2023, Learning Rate Schedules in the Presence of Distribution Shift, arXiv:2303.15634.
    Deviation: only the paper's abstract was at hand. It analyses the regression by a stochastic differential
        equation; this is the exact recursion of the discrete steps, for moves in random directions, or for the
        worst ones, where v_(t+1) = (sqrt(v) + delta_t)^2 with v the error before the move.

    Attributes:
        dimension: d, at least 1.
        noise: sigma, >= 0.
        distance: |theta_1 - theta*_1| at the start, > 0.
        batch_size: B, at least 1.
        worst: whether moves go straight away from the iterate.

    >>> law = DriftLaw(dimension=1, noise=1.0, distance=1.0)  # a = 3, b = 1
    >>> law.rates([0.0, 0.0]).tolist()  # 1 / 4, then v = 3/4 and 0.75 / 3.25
    [0.25, 0.23076923076923078]
    >>> bool(law.rates([0.0, 2.0, 0.0])[2] > 0.25)
    True
    """

    dimension: int
    noise: float
    distance: float
    batch_size: int = 1
    worst: bool = False

    def __post_init__(self) -> None:
        _check.integer("dimension", self.dimension, 1)
        _check.real("noise", self.noise, 0.0)
        _check.real("distance", self.distance, 1e-300)
        _check.integer("batch_size", self.batch_size, 1)

    def rates(self, shifts: npt.ArrayLike) -> Array:
        """(T,) learning rates of least regret for moves (T,) of the solution after each step."""
        return self._run(check_shifts(shifts), None)[0]

    def schedule(self, shifts: npt.ArrayLike, base_lr: float) -> Tabulated:
        """`rates`, to be multiplied with `base_lr`, for a run of as many steps as there are shifts."""
        return Tabulated(self.rates(shifts) / _check.real("base_lr", base_lr, 1e-300))

    def regret(self, shifts: npt.ArrayLike, lr: npt.ArrayLike | None = None) -> float:
        """Expected regret over the run at learning rates (T,), by default the best; inf where they diverge."""
        moves = check_shifts(shifts)
        if lr is None:
            return float(self._run(moves, None)[1].sum() / 2.0)
        rates = _check.vector("lr", lr)
        if len(rates) != len(moves) or (rates < 0).any():
            raise _check.ArgumentError(f"lr must be {len(moves)} numbers >= 0, one for each shift.")
        total = float(self._run(moves, rates)[1].sum() / 2.0)
        return total if math.isfinite(total) else math.inf

    def _run(self, shifts: Array, lr: Array | None) -> tuple[Array, Array]:
        """Learning rates (T,), by default the best, and expected errors (T,) before each step."""
        growth = 1.0 + (self.dimension + 1) / self.batch_size
        spread = self.noise**2 * self.dimension / self.batch_size
        error, rates, errors = self.distance**2, np.zeros(len(shifts)), np.zeros(len(shifts))
        with np.errstate(over="ignore", invalid="ignore"):
            for t, move in enumerate(shifts.tolist()):
                # An error of 0 is reached only without noise, and needs no step.
                best = error / (growth * error + spread) if error > 0.0 else 0.0
                rate = best if lr is None else float(lr[t])
                rates[t], errors[t] = rate, error
                error = (1.0 - 2.0 * rate + growth * rate**2) * error + spread * rate**2
                error = (math.sqrt(error) + move) ** 2 if self.worst else error + move**2
        return rates, errors
