"""A guard rail around any controller."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array, Controller, Decision, RunSpec, State, Window, check_controller, fit_groups

MAX_LEVEL = 3
"""Back-offs that compound at most."""
REGAIN = 2.0
"""Factor by which a learning rate that failed is approached again, per window."""


@dataclass(frozen=True)
class Guard:
    """Bounds the learning rate, and backs off when a loss is not finite or explodes, and recovers.

    After a window with such a loss the learning rate is that of the wrapped controller's last decision times
    `backoff`, compounded up to three times if it happens again; the wrapped controller does not see such a
    window. Each sound window then takes back one such factor. But the learning rate that failed is approached
    slowly: it may be half as high at first, and in each sound window `REGAIN` times as high as before.
    Hosts end a window at once when a loss fails (`Window.alarm`, see `alarm.LossAlarm`). The scales of single
    parameter groups, if the wrapped controller sets some, are those of its last decision as well, and come on top
    of the bounds.

    Attributes:
        controller: the controller that is guarded.
        backoff: factor on the learning rate, in [1e-6, 0.99].
        min_lr_scale: least multiple of the base learning rate, at least 0; a back-off goes below it.
        max_lr_scale: largest multiple of the base learning rate, at least `min_lr_scale`.
    """

    controller: Controller
    backoff: float = 0.1
    min_lr_scale: float = 0.0
    max_lr_scale: float = 1000.0

    def __post_init__(self) -> None:
        check_controller("controller", self.controller)
        _check.real("backoff", self.backoff, 1e-6, 0.99)
        _check.real("min_lr_scale", self.min_lr_scale, 0.0, 1e6)
        _check.real("max_lr_scale", self.max_lr_scale, self.min_lr_scale, 1e6)

    @property
    def reads(self) -> frozenset[str]:
        return self.controller.reads | {"loss"}

    def init(self, spec: RunSpec) -> State:
        return {
            "controller": self.controller.init(spec),
            "level": np.zeros(spec.num_runs),
            "ceiling": np.full(spec.num_runs, np.inf),
            "start": np.zeros(spec.num_runs, dtype=np.int64),
            "lr_scale": np.ones((spec.num_runs, 1)),
            "bucket_weights": spec.bucket_shares,
            "group_scale": np.ones(spec.base_lr.shape),
        }

    def decide(self, state: State, window: Window) -> tuple[State, Decision]:
        hit = window.alarm | (window.nonfinite > 0)
        level = np.where(hit, np.minimum(state["level"] + 1, MAX_LEVEL), np.maximum(state["level"] - 1, 0))
        inner, decision = self.controller.decide(state["controller"], window)
        lr_scale, weights, groups = decision.lr_scale, decision.bucket_weights, decision.group_scale
        last_groups = fit_groups(state["group_scale"], window.spec.num_groups)
        if hit.any():
            held = _shift(state["lr_scale"], window.step - state["start"], lr_scale.shape[1])
            lr_scale = np.where(hit[:, None], held, lr_scale)
            weights = np.where(hit[:, None], state["bucket_weights"], weights)
            if groups is not None or (last_groups != 1.0).any():
                groups = np.where(hit[:, None], last_groups, 1.0 if groups is None else groups)
            inner = _select(hit, state["controller"], inner)
        lr_scale = np.clip(lr_scale, self.min_lr_scale, self.max_lr_scale)
        failed = np.minimum(state["ceiling"], lr_scale[:, 0])
        # Where the schedule was at zero, no learning rate has failed.
        ceiling = np.where(hit & (failed > 0.0), 0.5 * failed, np.where(hit, 1.0, REGAIN) * state["ceiling"])
        guarded = {
            "controller": inner,
            "level": level,
            "ceiling": ceiling,
            "start": window.step,
            "lr_scale": lr_scale,
            "bucket_weights": weights,
            "group_scale": np.ones_like(last_groups) if groups is None else groups,
        }
        backed = np.minimum(lr_scale * (self.backoff**level)[:, None], ceiling[:, None])
        return guarded, Decision(backed, weights, () if hit.any() else decision.notes, groups)


def _shift(values: Array, offset: Array, width: int) -> Array:
    """(R, width) each row of `values` from its `offset` on, the last entry repeated."""
    index = np.minimum(offset[:, None] + np.arange(width), values.shape[1] - 1)
    return np.take_along_axis(values, index, axis=1)


def _select(rows: Array, chosen: State, otherwise: State) -> State:
    """`chosen` where `rows` (R,) is true, else `otherwise`, entry by entry."""
    if rows.all():
        return chosen
    selected: State = {}
    for name, value in chosen.items():
        other = otherwise[name]
        if isinstance(value, dict):
            selected[name] = _select(rows, value, other)
            continue
        if value.ndim > 1 and value.shape != other.shape:
            # An array over a window's steps, of windows of different lengths.
            value, other = _align(value, other)
        selected[name] = np.where(rows.reshape(-1, *[1] * (value.ndim - 1)), value, other)
    return selected


def _align(one: Array, other: Array) -> tuple[Array, Array]:
    """Both (R, W) arrays at the wider width, their last column repeated."""
    width, start = max(one.shape[1], other.shape[1]), np.zeros(len(one), dtype=np.int64)
    return _shift(one, start, width), _shift(other, start, width)
