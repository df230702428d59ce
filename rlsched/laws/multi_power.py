"""The multi-power law of loss curves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlsched import _check
from rlsched.contract import Array
from rlsched.laws.law import LossCurve, LossCurveLaw, annealing, check_curves, check_run, polish, weigh


@dataclass(frozen=True)
class MultiPowerLaw(LossCurveLaw):
    """Loss under any learning rates: `L0 + A S1^-alpha`, less what every fall of the learning rate has brought.

    After step t of a run with learning rates eta_1, eta_2, ...:

        L(t)    = L0 + A S_1(t)^-alpha - B sum_(k=2..t) (eta_(k-1) - eta_k) G(eta_k^-gamma S_k(t))
        S_k(t)  = eta_k + ... + eta_t
        G(x)    = 1 - (1 + C x)^-beta

    A fall brings most when the steps after it are many for their learning rate. Fitted to one or two runs, it
    predicts the loss of other schedules, and which would be the best.

    Source: Luo et al. 2025, A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules,
        arXiv:2503.12811; formula and fit as in the authors' code (thu-yao-01-luo/MultiPowerLaw).
    Deviation: the same Huber loss of ln(loss) is minimised by SciPy's trust region from the best few points of a
        grid, in which L0, A and B follow by non-negative least squares, where the authors refine by AdamW; the
        optimal schedule is a line between knots, where theirs is free at every step. Where the learning rate stays
        0, G is 0, the limit for gamma < 1.

    Attributes:
        l0: loss that endless training at a constant learning rate comes to, >= 0.
        a: height of the power law of the learning rate area, >= 0.
        alpha: its exponent, > 0.
        b: what falls of the learning rate bring at most, per unit of learning rate, >= 0.
        c: how soon they bring it, > 0.
        beta: exponent of that, > 0.
        gamma: how much sooner at a low learning rate, >= 0.

    >>> law = MultiPowerLaw(l0=1.0, a=1.0, alpha=1.0, b=1.0, c=1.0, beta=1.0, gamma=0.0)
    >>> law.predict([1.0, 1.0]).tolist()  # 1 + 1/1, 1 + 1/2
    [2.0, 1.5]
    >>> law.predict([2.0, 1.0])[1].round(6).item()  # 1 + 1/3 - 1 * (1 - 1/2)
    0.833333
    """

    l0: float
    a: float
    alpha: float
    b: float
    c: float
    beta: float
    gamma: float

    def __post_init__(self) -> None:
        for name in ("l0", "a", "b", "gamma"):
            _check.real(name, getattr(self, name), 0.0)
        for name in ("alpha", "c", "beta"):
            _check.real(name, getattr(self, name), 1e-300, remedy="Fit it to recorded runs: MultiPowerLaw.fit.")

    @classmethod
    def fit(cls, curves: Sequence[LossCurve]) -> MultiPowerLaw:
        """The law of `curves`. See `LossCurveLaw`; recording from a tenth of the run on fits best."""
        curves = check_curves(curves, parameters=7)
        # In units of the highest learning rate, numbers are the same for SGD at 0.1 and Adam at 1e-4.
        peak = max(float(curve.lr.max()) for curve in curves)
        terms = [_Terms(curve.lr / peak, curve.steps) for curve in curves]
        loss = np.concatenate([curve.loss for curve in curves])

        def gain(c: float, beta: float, gamma: float) -> Array:
            return np.concatenate([term.gain(c, beta, gamma) for term in terms])

        area = np.concatenate([term.area for term in terms])
        starts = []
        for alpha, c, beta, gamma in itertools.product(*GRID):
            # What falls bring is positive, and so is the loss it is taken from.
            features = np.stack([np.ones_like(area), area**-alpha, -gain(c, beta, gamma)], axis=1)
            (l0, a, b), error = weigh(features, loss)
            starts.append(
                (error, np.array([max(l0, 0.1 * loss.min()), a, alpha, max(b, 1e-3 * loss.min()), c, beta, gamma]))
            )
        starts.sort(key=lambda start: start[0])

        def predict(parameters: Array) -> Array:
            l0, a, alpha, b, c, beta, gamma = parameters
            return np.asarray(l0 + a * area**-alpha - b * gain(c, beta, gamma))

        polished = [polish(predict, loss, start) for _, start in starts[:STARTS]]
        best, _ = min(polished, key=lambda found: found[1])
        l0, a, alpha, b, c, beta, gamma = best.tolist()
        return cls(l0, a * peak**alpha, alpha, b / peak, c * peak ** (gamma - 1.0), beta, gamma)

    def predict(self, lr: npt.ArrayLike, steps: npt.ArrayLike | None = None) -> Array:
        rates, chosen = check_run(lr, steps)
        parts = np.array_split(chosen, 1 + len(chosen) * len(rates) // TOGETHER)
        return np.concatenate([self._predict(_Terms(rates, part)) for part in parts])

    def _predict(self, terms: _Terms) -> Array:
        gain = terms.gain(self.c, self.beta, self.gamma)
        return np.asarray(self.l0 + self.a * terms.area**-self.alpha - self.b * gain)


GRID = ((0.2, 0.4, 0.7, 1.1), (0.03, 0.3, 3.0), (0.3, 0.8), (0.0001, 0.4, 0.8))
"""alpha, c, beta and gamma, in units of the highest learning rate, from which a fit starts."""
STARTS = 4
"""Points of the grid that are refined."""
TOGETHER = 2**22
"""Pairs of steps that are computed together, so that memory is bounded."""


class _Terms:
    """Sums over learning rates (T,) at steps (N,) that the law is made of.

    Attributes:
        area: (N,) S_1.
    """

    def __init__(self, lr: Array, steps: Array) -> None:
        sums = np.cumsum(lr)
        self.area = sums[steps - 1]
        falls = annealing(lr)
        (self._at,) = np.nonzero(falls)
        self._fall, self._steps = falls[self._at], steps
        # (N, M) S_k(t) for each of the M falls, 0 before it; tiny rates would overflow the power below.
        self._since = np.maximum(self.area[:, None] - (sums - lr)[self._at], 0.0)
        self._since[self._at >= steps[:, None]] = 0.0
        self._log_lr = np.log(np.maximum(lr[self._at], 1e-9 * lr.max()))

    def gain(self, c: float, beta: float, gamma: float) -> Array:
        """(N,) the sum over falls."""
        sooner = np.exp(np.minimum(-gamma * self._log_lr, 300.0))
        return np.asarray((1.0 - (1.0 + c * sooner * self._since) ** -beta) @ self._fall)
