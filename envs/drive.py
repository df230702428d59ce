"""Driving an engine's runs by a controller, from their first step to their last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlsched.contract import Array, Controller, Decision, Window
from rlsched.envs.episodes import Engine

Watch = Callable[[Window, Decision, Array], Window]
"""Of a window, the decision for it and (R,) which runs are sound: the window as the controller is to see it."""


def drive(engine: Engine, controller: Controller, watch: Watch | None = None) -> Array:
    """Train the R runs of `engine`, which are at their start, to their end as `controller` decides.

    Validation losses are not reported to it, unless `watch` does.

    Returns:
        (R,) validation loss at the end; inf where a loss was not finite, at which a run stops.
    """
    spec = engine.spec
    window, state = Window.opening(spec), controller.init(spec)
    alive = np.ones(spec.num_runs, dtype=bool)
    while (left := np.where(alive, window.steps_ahead, 0)).any():
        state, decision = controller.decide(state, window)
        decision.check(window)
        window = engine.advance(left, decision.lr_scale, decision.bucket_weights)
        alive &= window.nonfinite == 0
        if watch is not None:
            window = watch(window, decision, alive)
    loss = engine.validation_loss()
    return np.where(alive & np.isfinite(loss), loss, np.inf)


@dataclass(frozen=True, eq=False)
class Traces:
    """What R runs did, window by window; W is the largest number of windows, beyond a run's last one is NaN.

    Attributes:
        steps: (R, W) steps done at the end of the window.
        validation: (R, W) validation loss there; inf once a loss was not finite.
        lr_scale: (R, W) multiplier of the base learning rates at the window's first step.
        bucket_weights: (R, W, K) in the window.
        final: (R,) validation loss at the end, inf where the run failed.
    """

    steps: Array
    validation: Array
    lr_scale: Array
    bucket_weights: Array
    final: Array


def trace(engine: Engine, controller: Controller, feedback: Array) -> Traces:
    """`drive`, watched: validation losses are measured at every decision, and reported where `feedback` (R,)."""
    seen: list[tuple[Array, Array, Array, Array]] = []
    before = np.zeros(engine.spec.num_runs)

    def watch(window: Window, decision: Decision, alive: Array) -> Window:
        nonlocal before
        loss = engine.validation_loss()
        sound = alive & np.isfinite(loss)
        trained = window.step > before
        before = window.step.astype(float)
        values = np.where(sound, loss, np.inf), decision.lr_scale[:, 0], decision.bucket_weights
        steps = np.where(trained, before, np.nan)
        seen.append((steps, *(np.where(trained.reshape(-1, *[1] * (v.ndim - 1)), v, np.nan) for v in values)))
        return window.replace(validation_loss=np.where(feedback & sound, loss, np.nan))

    final = drive(engine, controller, watch)
    return Traces(*(np.stack(values, axis=1) for values in zip(*seen, strict=True)), final)
