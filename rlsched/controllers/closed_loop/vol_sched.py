"""VolSched: the learning rate by how volatile the loss is now, against how it was."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlsched import _check
from rlsched.contract import Array, RunSpec, State, Window
from rlsched.controllers.closed_loop.closed_loop import ClosedLoop
from rlsched.controllers.closed_loop.measures import window_metric
from rlsched.controllers.schedules.cosine import Cosine
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.telemetry import mean_of_known

LONG = 10
"""Short terms that the long term goes back."""
LEAST_LOSS = 1e-8
"""Losses below it are taken for it, so that they have a logarithm."""


@dataclass(frozen=True)
class VolSched(ClosedLoop):
    """The learning rate rises when the loss has calmed down, to leave plateaus, and falls when it turns volatile.

    With r_i = ln(loss_i / loss_{i-1}) from window to window, once in `term` windows

        q  = std(r of the long term) / std(r of the last `term` windows)
        lr <- lr (1 + sign(q - 1) ln(1 + weight |q - 1|))

    where the long term is all of the run, or the last 10 short terms. What it multiplies is cosine decay by
    default, as in the author's code.

    Source: Ren 2025, An Adaptive Volatility-based Learning Rate Scheduler, arXiv:2507.10575, and its
        author's code.
    Deviation: the paper speaks of accuracy, measured once an epoch; here it is the loss of a window, the
        validation loss in runs that report one, else the training loss. Windows are few, and term and weight
        small; their values in the paper were not at hand. The scale is bounded.

    Attributes:
        term: windows of the short term, at least 2.
        weight: of a departure from equal volatility, in [0, 1.7]: from e - 1 on, a learning rate could fall to 0.
        bound: the scale stays between 1 / bound and bound, in [1, 1e6].
        schedule: what this multiplies; by default cosine decay.

    >>> from rlsched import Constant, RunSpec, Window
    >>> run = RunSpec.single(100, 10, 0.1, adaptive=False)
    >>> controller = VolSched(term=2, weight=1.0, schedule=Constant())
    >>> state = controller.init(run)
    >>> for log_loss in [0.0, 2.0, 2.0, 0.0]:  # r = 2, 0, -2: q = 2 / sqrt(2), and 1 + ln(q) = 1.3466
    ...     window = Window.opening(run).replace(loss=np.array([np.exp(log_loss)]))
    ...     state, decision = controller.decide(state, window)
    >>> round(float(decision.lr_scale[0, 0]), 4)
    1.3466
    """

    term: int = 3
    weight: float = 0.1
    bound: float = 100.0
    schedule: OpenLoop = field(default_factory=Cosine, kw_only=True)

    reads = frozenset({"loss", "validation_loss"})

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("term", self.term, 2)
        _check.real("weight", self.weight, 0.0, 1.7)
        _check.real("bound", self.bound, 1.0, 1e6)

    def init(self, spec: RunSpec) -> State:
        return super().init(spec) | {
            "last": np.full(spec.num_runs, np.nan),
            "returns": np.full((spec.num_runs, LONG * self.term - 1), np.nan),
            "seen": np.zeros(spec.num_runs, dtype=np.int64),
            "validated": np.zeros(spec.num_runs, dtype=bool),
        }

    def adapt(self, state: State, window: Window) -> State:
        metric = window_metric(window, state["validated"])
        usable = np.isfinite(metric.value)
        now = np.log(np.maximum(np.where(usable, metric.value, 1.0), LEAST_LOSS))
        last = np.where(metric.begins, np.nan, state["last"])
        returns = np.where(metric.begins[:, None], np.nan, state["returns"])
        shifted = np.concatenate([returns[:, 1:], (now - last)[:, None]], axis=1)
        returns = np.where((usable & ~np.isnan(last))[:, None], shifted, returns)
        seen = np.where(metric.begins, 0, state["seen"]) + usable

        due = usable & (seen % self.term == 0) & (seen > self.term)
        scale = state["scale"] * np.where(due, self._multiplier(returns), 1.0)
        return {
            "scale": np.clip(scale, 1.0 / self.bound, self.bound),
            "last": np.where(usable, now, last),
            "returns": returns,
            "seen": seen,
            "validated": metric.validated,
        }

    def _multiplier(self, returns: Array) -> Array:
        """(R,) of the learning rate; 1 where the short term has no volatility."""
        short = _deviation(returns[:, -self.term :])
        still = ~(short > 0.0)
        departure = _deviation(returns) / np.where(still, 1.0, short) - 1.0
        moved = 1.0 + np.sign(departure) * np.log1p(self.weight * np.abs(departure))
        return np.where(still | np.isnan(moved), 1.0, moved)


def _deviation(values: Array) -> Array:
    """(R,) sample standard deviation of the known entries of each row; NaN where there are none, 0 of one."""
    count = (~np.isnan(values)).sum(axis=1)
    squares = (values - mean_of_known(values)[:, None]) ** 2
    return np.asarray(np.sqrt(mean_of_known(squares) * count / np.maximum(count - 1, 1)))
