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
    steps, validation, lr_scale, bucket_weights = [], [], [], []
    before = np.zeros(engine.spec.num_runs)

    def watch(window: Window, decision: Decision, alive: Array) -> Window:
        nonlocal before
        loss = engine.validation_loss()
        sound, trained = alive & np.isfinite(loss), window.step > before
        before = window.step.astype(float)
        steps.append(np.where(trained, before, np.nan))
        validation.append(np.where(trained, np.where(sound, loss, np.inf), np.nan))
        lr_scale.append(np.where(trained, decision.lr_scale[:, 0], np.nan))
        bucket_weights.append(np.where(trained[:, None], decision.bucket_weights, np.nan))
        return window.replace(validation_loss=np.where(feedback & sound, loss, np.nan))

    final = drive(engine, controller, watch)
    return Traces(
        np.stack(steps, axis=1),
        np.stack(validation, axis=1),
        np.stack(lr_scale, axis=1),
        np.stack(bucket_weights, axis=1),
        final,
    )
