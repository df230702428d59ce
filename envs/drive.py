"""Driving an engine's runs by a controller, from their first step to their last."""

from __future__ import annotations

import numpy as np

from rlsched.contract import Array, Controller, Window
from rlsched.envs.episodes import Engine


def drive(engine: Engine, controller: Controller) -> Array:
    """Train the R runs of `engine`, which are at their start, to their end as `controller` decides.

    Validation losses are not reported to it.

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
    loss = engine.validation_loss()
    return np.where(alive & np.isfinite(loss), loss, np.inf)
