"""Learning rates of layers so that their weights turn at the same rate."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlsched import _check
from rlsched.contract import Array, Controller, Decision, RunSpec, State, Window, check_controller, fit_groups
from rlsched.controllers.schedules import Constant
from rlsched.telemetry import is_sampled

MAX_MOVE = 2.0
"""Factor by which the scale of a group changes at most, per window."""
STILL = 1e-13
"""Cosine distance up to which weights in single precision have not moved."""


@dataclass(frozen=True)
class LayerRotation:
    """Layer rotation control: layers turn at the same rate, by `scale_i *= (target / angle_i)^gain` per window.

    angle_i is the angle by which an update turns the weights of layer i, the root mean square over the sampled
    steps at the window's end. The target is the geometric mean of all layers' angles, so that the layers are
    balanced, and the learning rate as a whole remains the wrapped controller's; or, given a `rate`,

        target = arctan(rate * lr_scale)

    with the wrapped controller's multiplier in those steps: how far an update turns the weights then no longer
    depends on the base learning rates and the size of gradients. A layer that did not turn, as its gradient is
    zero, says nothing, and keeps its scale. Make one parameter group for each layer; groups without a matrix
    (biases, gains) keep a scale of 1.

    Source: Carbonnelle and De Vleeschouwer 2018, Layer rotation: a surprisingly powerful indicator of
        generalization in deep networks?, arXiv:1806.01603, read through the authors' code
        (github.com/ispgroupucl/layer-rotation-tools).
    Deviation: their Layca takes the part of each update that is orthogonal to a weight tensor, gives it the length
        `rate` times that of the weights, and restores the length of the weights, at every step. A controller does
        not touch updates: here a factor on the learning rate brings the angle to its target, on average and not at
        every step, within a few windows, by at most `MAX_MOVE` in each; the length of the weights is free. Without
        a `rate` the layers are balanced and no more. The authors take 3^-3 for SGD and 3^-5 with momentum or Adam,
        constant but for drops by 5 or 10 late in training. While a guard holds the learning rate down, a `rate`
        works against it, by at most `MAX_MOVE` per window.

    Attributes:
        controller: of the learning rate that is scaled; by default it is constant.
        rate: tangent of the angle that every layer turns by in a step, in [1e-6, 1]; None for the layers' mean.
        gain: share of an imbalance, on a log scale, that a decision corrects, in [0.01, 1]. Below 1 it averages
            the noise of single windows.
        max_scale: largest scale of a group, and one over the least one, in [1, 1e6].

    >>> control = LayerRotation(gain=1.0)
    >>> control.factors(np.array([[0.1, 0.2, np.nan, 0.4]]), np.array([[np.nan]])).round(9).tolist()
    [[2.0, 1.0, 1.0, 0.5]]
    """

    controller: Controller = field(default_factory=Constant)
    rate: float | None = None
    gain: float = 0.5
    max_scale: float = 100.0

    def __post_init__(self) -> None:
        check_controller("controller", self.controller)
        if self.rate is not None:
            _check.real("rate", self.rate, 1e-6, 1.0)
        _check.real("gain", self.gain, 0.01, 1.0)
        _check.real("max_scale", self.max_scale, 1.0, 1e6)

    @property
    def reads(self) -> frozenset[str]:
        return self.controller.reads | {"group_rotation"}

    def init(self, spec: RunSpec) -> State:
        spec.require_group_rates("LayerRotation")
        return {
            "controller": self.controller.init(spec),
            "group_scale": np.ones(spec.base_lr.shape),
            "lr_scale": np.zeros(spec.num_runs),
        }

    def decide(self, state: State, window: Window) -> tuple[State, Decision]:
        inner, decision = self.controller.decide(state["controller"], window)
        scale = fit_groups(state["group_scale"], window.spec.num_groups)
        if window.group_rotation is not None:
            moved = np.where(window.group_rotation > STILL, window.group_rotation, np.nan)
            angle = 2.0 * np.arcsin(np.sqrt(np.clip(moved, 0.0, 2.0) / 2.0))  # arccos(1 - moved), but exact
            scale = scale * self.factors(angle, self._target(state["lr_scale"]))
            scale = np.clip(scale, 1.0 / self.max_scale, self.max_scale)
        after = {
            "controller": inner,
            "group_scale": scale,
            "lr_scale": _sampled(decision.lr_scale, window.steps_ahead),
        }
        return after, decision.scale_groups(scale)

    def factors(self, angle: Array, target: Array) -> Array:
        """(R, G) factors on the groups' scales, from the `angle` (R, G) of each, NaN where unknown.

        `target` (R, 1) is that of all groups, NaN for their geometric mean, around which they then balance.
        """
        known = ~np.isnan(angle)
        log_angle = np.log(np.where(known, angle, 1.0))
        mean = _mean(log_angle, known)
        log_target = np.log(np.where(np.isnan(target), 1.0, target))
        error = np.where(np.isnan(target), mean, log_target) - log_angle
        limit = np.log(MAX_MOVE)
        move = self.gain * error
        # Around their mean all move less: what is cut off on one side would move the learning rate as a whole.
        largest = np.where(known, np.abs(move), 0.0).max(axis=1, keepdims=True)
        balanced = move * np.minimum(1.0, limit / np.maximum(largest, limit))
        move = np.where(np.isnan(target), balanced, np.clip(move, -limit, limit))
        return np.where(known, np.exp(move), 1.0)

    def _target(self, lr_scale: Array) -> Array:
        """(R, 1) the angle that `rate` asks for, NaN where that is none."""
        rate = np.nan if self.rate is None else self.rate
        return np.arctan(np.where(lr_scale > 0.0, rate * lr_scale, np.nan))[:, None]


def _mean(values: Array, known: Array) -> Array:
    """(R, 1) mean of the known values of each row."""
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.asarray(np.where(known, values, 0.0).sum(axis=1, keepdims=True) / count)


def _sampled(lr_scale: Array, steps_ahead: Array) -> Array:
    """(R,) root mean square of the multiplier over the steps of the coming window that are going to be sampled."""
    inside = is_sampled(np.arange(lr_scale.shape[1]), steps_ahead[:, None])
    squares = np.where(inside, lr_scale, 0.0) ** 2
    return np.asarray(np.sqrt(squares.sum(axis=1) / np.maximum(inside.sum(axis=1), 1)))
