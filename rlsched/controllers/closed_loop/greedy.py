"""transformers' GreedyLR, window by window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import RunSpec, State, Window
from rlsched.controllers.closed_loop.closed_loop import ClosedLoop
from rlsched.controllers.closed_loop.measures import window_metric
from rlsched.controllers.closed_loop.plateau import THRESHOLDS, is_better
from rlsched.telemetry import mean_of_known


@dataclass(frozen=True)
class Greedy(ClosedLoop):
    """The learning rate rises while the loss falls, and falls when it does not.

    After more than `patience` windows in a row whose loss, averaged over the last `smoothing`, is the best so far,
    or is not,

        lr <- lr / factor    or    lr <- factor lr

    The loss is the validation loss in runs that report one, else the training loss.

    Source: Subramanian et al. 2025, Dynamic Learning Rate Scheduling based on Loss Changes Leads to Faster
        Convergence, arXiv:2512.14527, as transformers.GreedyLR has it.
    Deviation: it counts windows, of which a run has 10 to 100, rather than steps. Its moves are therefore larger
        by default and come at once (transformers: 0.95 after ten), and it starts anew earlier; the limits are
        multiples of the base learning rate. There is no least change of the learning rate (`eps`).

    Attributes:
        factor: of a cut, and its inverse of a rise, in [0.01, 0.999].
        patience: windows in a row without consequences, at least 0.
        threshold: least improvement, at least 0, as `threshold_mode` says.
        threshold_mode: "abs", in the loss's units, or "rel", a share of the best loss.
        cooldown: windows after a cut that are not looked at, at least 0.
        warmup: likewise after a rise.
        min_scale: least multiple of the base learning rate, in [1e-12, 1].
        max_scale: largest multiple, in [1, 1e6].
        smoothing: windows whose losses are averaged, at least 1.
        reset_after: cuts at the least multiple after which all begins anew at the base learning rate, at least 1.
        schedule: what this multiplies; by default constant.

    >>> from rlsched import RunSpec, Window
    >>> run, controller, scales = RunSpec.single(100, 10, 0.1, adaptive=False), Greedy(factor=0.5), []
    >>> state = controller.init(run)
    >>> for loss in [2.0, 1.0, 1.5, 0.9]:
    ...     state, decision = controller.decide(state, Window.opening(run).replace(loss=np.array([loss])))
    ...     scales.append(float(decision.lr_scale[0, 0]))
    >>> scales
    [2.0, 4.0, 2.0, 4.0]
    """

    factor: float = 0.9
    patience: int = 0
    threshold: float = 1e-6
    threshold_mode: str = "abs"
    cooldown: int = 0
    warmup: int = 0
    min_scale: float = 0.01
    max_scale: float = 10.0
    smoothing: int = 1
    reset_after: int = 20

    reads = frozenset({"loss", "validation_loss"})

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.real("factor", self.factor, 0.01, 0.999)
        for name in ("patience", "cooldown", "warmup"):
            _check.integer(name, getattr(self, name), 0)
        _check.real("threshold", self.threshold, 0.0)
        _check.choice("threshold_mode", self.threshold_mode, THRESHOLDS)
        _check.real("min_scale", self.min_scale, 1e-12, 1.0)
        _check.real("max_scale", self.max_scale, 1.0, 1e6)
        for name in ("smoothing", "reset_after"):
            _check.integer(name, getattr(self, name), 1)

    def init(self, spec: RunSpec) -> State:
        none = np.zeros(spec.num_runs, dtype=np.int64)
        return super().init(spec) | {
            "recent": np.full((spec.num_runs, self.smoothing), np.nan),
            "best": np.full(spec.num_runs, np.inf),
            "good": none,
            "bad": none,
            "resting": none,
            "at_least": none,
            "validated": none.astype(bool),
        }

    def adapt(self, state: State, window: Window) -> State:
        metric = window_metric(window, state["validated"])
        measured = ~np.isnan(metric.value)
        recent = np.where(metric.begins[:, None], np.nan, state["recent"])
        shifted = np.concatenate([recent[:, 1:], metric.value[:, None]], axis=1)
        recent = np.where(measured[:, None], shifted, recent)
        best = np.where(metric.begins, np.inf, state["best"])

        rests = measured & (state["resting"] > 0)
        looks = measured & ~rests
        mean = mean_of_known(recent)
        better = looks & is_better(mean, best, self.threshold, self.threshold_mode)
        worse = looks & ~better
        good = np.where(rests | worse, 0, state["good"] + better)
        bad = np.where(rests | better, 0, state["bad"] + worse)

        rise = good > self.patience
        cut = bad > self.patience
        scale = np.where(rise, np.minimum(state["scale"] / self.factor, self.max_scale), state["scale"])
        scale = np.where(cut, np.maximum(scale * self.factor, self.min_scale), scale)
        at_least = np.where(rise, 0, state["at_least"] + (cut & (scale <= self.min_scale)))
        anew = at_least >= self.reset_after
        return {
            "scale": np.where(anew, 1.0, scale),
            "recent": np.where(anew[:, None], np.nan, recent),
            "best": np.where(anew, np.inf, np.where(better, mean, best)),
            "good": np.where(rise | anew, 0, good),
            "bad": np.where(cut | anew, 0, bad),
            "resting": np.where(cut, self.cooldown, np.where(rise, self.warmup, state["resting"] - rests)),
            "at_least": np.where(anew, 0, at_least),
            "validated": metric.validated,
        }
