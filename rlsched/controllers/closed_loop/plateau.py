"""torch's ReduceLROnPlateau, window by window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array, RunSpec, State, Window
from rlsched.controllers.closed_loop.closed_loop import ClosedLoop
from rlsched.controllers.closed_loop.measures import window_metric

THRESHOLDS = ("rel", "abs")


@dataclass(frozen=True)
class Plateau(ClosedLoop):
    """The learning rate is cut when the loss has not improved for some windows, `lr <- factor lr`.

    A window is good if its loss is below the best so far, less a threshold; else it is bad. After more than
    `patience` bad windows in a row the learning rate is multiplied by `factor`, and `cooldown` windows follow in
    which bad ones do not count. The loss is the validation loss in runs that report one, else the training loss.

    Source: torch.optim.lr_scheduler.ReduceLROnPlateau.
    Deviation: it counts windows, which torch leaves to the user to be epochs: a run has 10 to 100 of them, the
        first ones short. Patience and factor are therefore smaller by default (torch: a tenth after ten). There is
        no least change of the learning rate (`eps`).

    Attributes:
        factor: of a cut, in [1e-6, 0.999].
        patience: bad windows in a row without consequences, at least 0.
        threshold: least improvement, at least 0, as `threshold_mode` says.
        threshold_mode: "rel", a share of the best loss, or "abs", in the loss's units.
        cooldown: windows after a cut in which bad ones do not count, at least 0.
        min_scale: least multiple of the base learning rate, in [1e-12, 1].
        schedule: what this multiplies; by default constant.

    >>> from rlsched import RunSpec, Window
    >>> run, controller, scales = RunSpec.single(100, 10, 0.1, adaptive=False), Plateau(patience=1), []
    >>> state = controller.init(run)
    >>> for loss in [2.0, 1.0, 1.0, 1.5, 0.9]:
    ...     state, decision = controller.decide(state, Window.opening(run).replace(loss=np.array([loss])))
    ...     scales.append(float(decision.lr_scale[0, 0]))
    >>> scales
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """

    factor: float = 0.5
    patience: int = 2
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_scale: float = 1e-4

    reads = frozenset({"loss", "validation_loss"})

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.real("factor", self.factor, 1e-6, 0.999)
        _check.integer("patience", self.patience, 0)
        _check.real("threshold", self.threshold, 0.0)
        _check.choice("threshold_mode", self.threshold_mode, THRESHOLDS)
        _check.integer("cooldown", self.cooldown, 0)
        _check.real("min_scale", self.min_scale, 1e-12, 1.0)

    def init(self, spec: RunSpec) -> State:
        none = np.zeros(spec.num_runs, dtype=np.int64)
        return super().init(spec) | {
            "best": np.full(spec.num_runs, np.inf),
            "bad": none,
            "cooling": none,
            "validated": none.astype(bool),
        }

    def adapt(self, state: State, window: Window) -> State:
        metric = window_metric(window, state["validated"])
        measured = ~np.isnan(metric.value)
        best = np.where(metric.begins, np.inf, state["best"])
        good = is_better(metric.value, best, self.threshold, self.threshold_mode)
        cooling = np.where(measured, np.maximum(state["cooling"] - 1, 0), state["cooling"])
        quiet = good | (measured & (state["cooling"] > 0))
        bad = np.where(quiet, 0, state["bad"] + measured)
        cut = bad > self.patience
        return {
            "scale": np.where(cut, np.maximum(self.factor * state["scale"], self.min_scale), state["scale"]),
            "best": np.where(good, metric.value, best),
            "bad": np.where(cut, 0, bad),
            "cooling": np.where(cut, self.cooldown, cooling),
            "validated": metric.validated,
        }


def is_better(value: Array, best: Array, threshold: float, mode: str) -> Array:
    """(R,) whether `value` is below `best` by more than the threshold; a NaN is not."""
    limit = best * (1.0 - threshold) if mode == "rel" else best - threshold
    return np.asarray(value < limit)
