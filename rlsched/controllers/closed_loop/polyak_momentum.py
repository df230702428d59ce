"""Polyak's step size for SGD with momentum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array, RunSpec, State, Window
from rlsched.controllers.closed_loop.closed_loop import ClosedLoop
from rlsched.controllers.closed_loop.measures import LARGEST, first_base_lr

LEAST_SCALE = 1e-6
"""Multiple of the base learning rate where no step is due, the loss being at its lower bound."""


@dataclass(frozen=True)
class PolyakMomentum(ClosedLoop):
    """The learning rate from loss and gradient norm, whatever the base learning rate is.

    With d_t = g_t + m d_{t-1} the direction of SGD with momentum m, and f* a lower bound of the loss f,

        lr = min((f - f*) / (c |d|^2), max_lr)

    is the step along d that convexity promises most of. It is ALR-MAG with c = 1 and a `max_lr` that does not
    bind, else ALR-SMAG; with m = 0 it is Polyak's own. A window has the norm of g but not of d. With cos the mean
    cosine of consecutive gradients and n the steps at the end of the coming window,

        |d|^2 = |g|^2 (cos s^2 + (1 - cos) q),    s = (1 - m^n) / (1 - m),    q = (1 - m^2n) / (1 - m^2)

    as of gradients that share a signal and are independent otherwise. Where cos < 0, gradients alternate, and
    |d|^2 = |g|^2 q (1 + m cos) / (1 - m cos).

    Source: Wang et al. 2023, Generalized Polyak Step Size for First Order Optimization with Momentum,
        arXiv:2305.12939.
    Deviation: of the paper the abstract and code by others were at hand. |d| is estimated as above, and f is the
        training loss at the window's end, on an exponential through its mean and slope. A learning rate holds for
        a window instead of a step, and one that flat directions ask for may be too long for steep ones by then:
        after the first it grows from window to window by at most `growth` (as in the smoothing of Loizou et al.
        2021, arXiv:2002.10542), or `growth^(1 + 2 cos)` where gradients alternate. In models whose gradients are
        measured on a subsample of the parameters, |g| is that of the subsample: raise c by what was left out.

    Attributes:
        momentum: m of the optimizer, torch's `momentum` without dampening, in [0, 0.999].
        lower_bound: f*, in the loss's units.
        c: divisor, in [1e-3, 1e9]; 1/2 doubles the step.
        max_lr: largest learning rate of the first parameter group, in [1e-12, 1e12]; the paper's eta_max.
        growth: largest factor by which the learning rate rises from one window to the next, in [1, 1000]; None for
            no limit, as in the paper, in runs that decide at every step.
        schedule: what this multiplies; by default constant.

    >>> from rlsched import RunSpec, Window
    >>> run, controller = RunSpec.single(100, 10, base_lr=0.1, adaptive=False), PolyakMomentum(0.0, max_lr=1.0)
    >>> window = Window.opening(run).replace(
    ...     loss=np.array([0.8]), loss_slope=np.zeros(1), grad_norm=np.array([2.0]), grad_agreement=np.zeros(1)
    ... )
    >>> _, decision = controller.decide(controller.init(run), window)
    >>> round(float(decision.lr_scale[0, 0]), 9)  # 0.8 / 2^2 = 0.2, twice the base
    2.0
    """

    momentum: float = 0.9
    lower_bound: float = 0.0
    c: float = 1.0
    max_lr: float = 0.1
    growth: float | None = 2.0

    reads = frozenset({"loss", "grad_norm", "grad_agreement"})

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.real("momentum", self.momentum, 0.0, 0.999)
        _check.real("lower_bound", self.lower_bound, -np.inf)
        _check.real("c", self.c, 1e-3, 1e9)
        _check.real("max_lr", self.max_lr, 1e-12, 1e12)
        if self.growth is not None:
            _check.real("growth", self.growth, 1.0, 1e3)

    def init(self, spec: RunSpec) -> State:
        """Raises ArgumentError for optimizers of Adam's kind, which do not move along the sum of gradients."""
        if spec.adaptive.any():
            raise _check.ArgumentError(
                "PolyakMomentum needs an optimizer that moves along its gradients, got one like Adam: use SGD, "
                "or a controller that knows no units, such as Hypergradient()."
            )
        return super().init(spec) | {"lr": np.full(spec.num_runs, np.nan)}

    def adapt(self, state: State, window: Window) -> State:
        gap = np.maximum(_last_loss(window) - self.lower_bound, 0.0)
        norm = np.clip(window.grad_norm, 1.0 / LARGEST, LARGEST)
        base = first_base_lr(window)
        step = np.minimum(gap / (self.c * norm**2 * self._gain(window)), self.max_lr)
        measured = np.isfinite(step) & np.isfinite(base) & np.isfinite(window.grad_norm)
        if self.growth is not None:
            turning = np.nan_to_num(np.clip(window.grad_agreement, -1.0, 0.0))
            most = self.growth ** (1.0 + 2.0 * turning) * state["lr"]
            step = np.where(np.isnan(most), step, np.minimum(step, most))
        scale = np.maximum(step / base, LEAST_SCALE)
        return {
            "scale": np.where(measured, scale, state["scale"]),
            # Growth is from the last step that was due.
            "lr": np.where(measured & (step > 0.0), step, state["lr"]),
        }

    def _gain(self, window: Window) -> Array:
        """(R,) |d|^2 / |g|^2 at the end of the coming window."""
        m, steps = self.momentum, window.step + window.steps_ahead
        cosine = np.nan_to_num(np.clip(window.grad_agreement, -1.0, 1.0), nan=1.0)
        total, squares = (1.0 - m**steps) / (1.0 - m), (1.0 - m ** (2 * steps)) / (1.0 - m**2)
        sharing = cosine * total**2 + (1.0 - cosine) * squares
        return np.where(cosine < 0.0, squares * (1.0 + m * cosine) / (1.0 - m * cosine), sharing)


def _last_loss(window: Window) -> Array:
    """(R,) loss at the end of the window, NaN where it is not known or not finite."""
    loss = np.where(np.isfinite(window.loss), window.loss, np.nan)
    slope = np.clip(np.nan_to_num(window.loss_slope), -6.0, 6.0)
    return np.asarray(loss + np.abs(loss) * np.expm1(0.5 * slope))
