"""A guard rail around any controller."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array, Controller, Decision, RunSpec, State, Window


@dataclass(frozen=True)
class Guard:
    """Backs off when a loss is not finite, and recovers.

    After a window with a non-finite loss the learning rate is that of the wrapped controller's last decision
    times `backoff`, compounded if it happens again; the wrapped controller does not see such a window. Each
    window of finite losses then takes back one such factor. Hosts end a window at once on a non-finite loss.

    Attributes:
        controller: the controller that is guarded.
        backoff: factor on the learning rate, in [1e-6, 0.99].
    """

    controller: Controller
    backoff: float = 0.1

    def __post_init__(self) -> None:
        _check.real("backoff", self.backoff, 1e-6, 0.99)

    @property
    def reads(self) -> frozenset[str]:
        return self.controller.reads | {"loss"}

    def init(self, spec: RunSpec) -> State:
        return {
            "controller": self.controller.init(spec),
            "level": np.zeros(spec.num_runs),
            "start": np.zeros(spec.num_runs, dtype=np.int64),
            "lr_scale": np.ones((spec.num_runs, 1)),
            "bucket_weights": spec.bucket_shares,
        }

    def decide(self, state: State, window: Window) -> tuple[State, Decision]:
        hit = window.nonfinite > 0
        level = np.where(hit, state["level"] + 1.0, np.maximum(state["level"] - 1.0, 0.0))
        inner, decision = self.controller.decide(state["controller"], window)
        held = _shift(state["lr_scale"], window.step - state["start"], decision.lr_scale.shape[1])
        lr_scale = np.where(hit[:, None], held, decision.lr_scale)
        weights = np.where(hit[:, None], state["bucket_weights"], decision.bucket_weights)
        guarded = {
            "controller": _select(hit, state["controller"], inner),
            "level": level,
            "start": window.step,
            "lr_scale": lr_scale,
            "bucket_weights": weights,
        }
        return guarded, Decision(lr_scale * (self.backoff**level)[:, None], weights)


def _shift(values: Array, offset: Array, width: int) -> Array:
    """(R, width) each row of `values` from its `offset` on, the last entry repeated."""
    index = np.minimum(offset[:, None] + np.arange(width), values.shape[1] - 1)
    return np.take_along_axis(values, index, axis=1)


def _select(rows: Array, chosen: State, otherwise: State) -> State:
    """`chosen` where `rows` (R,) is true, else `otherwise`, entry by entry."""
    return {
        name: _select(rows, value, otherwise[name])
        if isinstance(value, dict)
        else np.where(rows.reshape(-1, *[1] * (value.ndim - 1)), value, otherwise[name])
        for name, value in chosen.items()
    }
