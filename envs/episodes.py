"""Episodes of scheduling: from observations and actions to windows of training, rewards and endings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rlsched.contract import Array, Decision, RunSpec, Window
from rlsched.envs.reward import relative_log_loss
from rlsched.envs.tasks.task import Task
from rlsched.policy import PolicyInterface


class Engine(Protocol):
    """What advances R runs: a `Population`, or some eager loops."""

    spec: RunSpec

    def advance(self, n_steps: Array, lr_scale: Array, bucket_weights: Array) -> Window:
        """Train row r for `n_steps[r]` steps; see `Population.advance`."""
        ...

    def validation_loss(self) -> Array:
        """(R,) mean loss of each row on its validation data."""
        ...


class Episodes:
    """R episodes that begin together. Every environment is made of these, so there is one definition of a step.

    Args:
        engine: the runs, at their start.
        tasks: of each run.
        interface: observation and action decoding.
    """

    def __init__(self, engine: Engine, tasks: Sequence[Task], interface: PolicyInterface) -> None:
        self._engine, self._interface = engine, interface
        self._feedback = np.array([task.config.feedback for task in tasks])
        self.alive = np.ones(len(tasks), dtype=bool)
        """(R,) whether the episode goes on."""
        self._first_loss, self._last_log_loss = np.ones(len(tasks)), np.zeros(len(tasks))

    def begin(self) -> tuple[Array, list[dict[str, Any]]]:
        """Train the opening at the default schedule: observations (R, F + K * B) and infos."""
        self._window = Window.opening(self._engine.spec)
        self._state, decision = self._interface.default(self._interface.init(self._engine.spec), self._window)
        seen, loss, finite, infos = self._advance(decision.lr_scale, decision.bucket_weights)
        # A run that diverges in its opening has nothing to refer to: it ends at the next step.
        self._first_loss = np.where(finite, np.maximum(loss, 1e-12), 1.0)
        return seen, infos

    def decide(self, actions: Array) -> Decision:
        """What `actions` (R, 1 + K) would mean now; nothing changes."""
        return self._interface.act(self._state, self._window, actions)[1]

    def step(self, actions: Array) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """Decide with `actions` (R, 1 + K), train to the next decision, observe.

        Returns:
            observations (R, F + K * B), rewards (R,), whether each episode has ended (R,), and infos. Those of
            episodes that were over before mean nothing.
        """
        self._state, decision = self._interface.act(self._state, self._window, actions)
        seen, loss, finite, infos = self._advance(decision.lr_scale, decision.bucket_weights)
        log_loss = relative_log_loss(loss, self._first_loss, finite)
        rewards = self._last_log_loss - log_loss
        over = ~finite | (self._window.step >= self._engine.spec.num_steps)
        self._last_log_loss, self.alive = log_loss, self.alive & ~over
        return seen, rewards, over, infos

    def _advance(self, lr_scale: Array, weights: Array) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """Train the living runs through their window: observations, validation losses, which are sound, infos."""
        n_steps = np.where(self.alive, self._window.steps_ahead, 0)
        window = self._engine.advance(n_steps, lr_scale, weights)
        validation = self._engine.validation_loss()
        finite = (window.nonfinite == 0) & np.isfinite(validation)
        self._window = window.replace(validation_loss=np.where(self._feedback & finite, validation, math.nan))
        self._state, seen = self._interface.observe(self._state, self._window)
        infos = [
            {
                "validation_loss": float(validation[row]),
                "step": int(window.step[row]),
                "lr_scale": float(lr_scale[row, 0]),
                "bucket_weights": weights[row].copy(),
            }
            for row in range(len(self.alive))
        ]
        return seen, validation, finite, infos
