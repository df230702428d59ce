"""The decisions of a controller over one run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlsched.contract import (
    TELEMETRY,
    Array,
    Controller,
    Decision,
    RunSpec,
    State,
    Window,
    check_controller,
    fit_groups,
)
from rlsched.controllers import PolicyController
from rlsched.policy import Policy


class Decisions:
    """A controller at work on one run (R = 1): the decision in force, and the record of all.

    Args:
        controller: who decides.

    Attributes:
        index: decisions taken after the opening.
        window_start: step at which the decision in force took effect.
        window_end: step at which the next one is due.
    """

    def __init__(self, controller: Controller) -> None:
        self.index = 0
        self.window_start = 0
        self.window_end = 0
        self._controller = controller
        self._state: State = {}
        self._lr_scale = [1.0]
        self._bucket_weights: Array = np.ones((1, 1))
        self._group_scale: Array | None = None
        self._rows: list[dict[str, Any]] = []

    def begin(self, spec: RunSpec, base_lrs: Sequence[float]) -> None:
        """Begin the run `spec` anew, with the decision for its opening."""
        self._state = self._controller.init(spec)
        self._rows = []
        self.index = 0
        self.decide(Window.opening(spec), base_lrs)

    def decide(self, window: Window, base_lrs: Sequence[float]) -> Decision:
        """Let the controller decide after `window`; `base_lrs` (G,) are only for the record."""
        self._state, decision = self._controller.decide(self._state, window)
        decision.check(window)
        self._lr_scale, self._bucket_weights = decision.lr_scale[0].tolist(), decision.bucket_weights
        self._group_scale = decision.group_scale
        self.window_start = int(window.step[0])
        self.window_end = self.window_start + int(window.steps_ahead[0])
        scale = self.lr_scale(self.window_start)
        groups = fit_groups(np.ones((1, 1)) if self._group_scale is None else self._group_scale, len(base_lrs))[0]
        self._rows.append(
            {
                "step": self.window_start,
                "lr_scale": scale,
                "lr": np.array([lr * scale for lr in base_lrs]) * groups,
                "group_scale": groups,
                "bucket_weights": self.bucket_weights,
                "loss": float(window.loss[0]),
                "validation_loss": float(window.validation_loss[0]),
            }
        )
        return decision

    def end_window(self, step: int) -> None:
        """Let the window end at `step`, if it would not before."""
        self.window_end = min(self.window_end, step) if self.window_end > self.window_start else step

    def advance(self, spec: RunSpec, step: int) -> None:
        """The window ended at `step`; the next decision is the first of `spec` that is not due after it."""
        self.index = max(1, int((spec.decision_steps[0] <= step).sum()))

    def lr_scale(self, step: int) -> float:
        """Multiplier of the base learning rates at `step`; the window's last one beyond its end."""
        return self._lr_scale[min(step - self.window_start, len(self._lr_scale) - 1)]

    @property
    def group_scale(self) -> Array | None:
        """(G,) multiplier of each parameter group's learning rate now; for groups that joined since it is 1."""
        return None if self._group_scale is None else self._group_scale[0]

    @property
    def losses(self) -> list[float]:
        """Mean loss of the window before each decision, NaN where unknown."""
        return [row["loss"] for row in self._rows]

    @property
    def latest(self) -> dict[str, Any]:
        """The last row of `history`."""
        return self._rows[-1]

    @property
    def bucket_weights(self) -> Array:
        """(K,) probability of drawing from each bucket now."""
        return self._bucket_weights[0].copy()

    def history(self) -> dict[str, Array]:
        """One row for each of n decisions; see `RLScheduler.history`."""
        groups = len(self._rows[-1]["lr"])
        rows = [row | {name: _pad(row[name], groups) for name in ("lr", "group_scale")} for row in self._rows]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def state_dict(self) -> State:
        """Everything needed to continue, as arrays and plain numbers."""
        return {
            "decision": self.index,
            "window_start": self.window_start,
            "window_end": self.window_end,
            "lr_scale": np.array([self._lr_scale]),
            "bucket_weights": self._bucket_weights.copy(),
            "group_scale": None if self._group_scale is None else self._group_scale.copy(),
            "controller": self._state,
            "history": self.history(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continue from `state_dict`; ValueError, with nothing changed, if it is of another kind of run."""
        if _structure(state["controller"]) != _structure(self._state):
            raise ValueError(
                "the state is of another kind of controller than this scheduler's: construct it with the policy "
                "or controller, and the guard, of the saved run."
            )
        found, wanted = state["bucket_weights"].shape[1], self._bucket_weights.shape[1]
        if found != wanted:
            raise ValueError(
                f"the state is of a run with {found} buckets, this one has {wanted}: construct the scheduler and "
                "its sampler as in the saved run before loading."
            )
        self.index = state["decision"]
        self.window_start, self.window_end = state["window_start"], state["window_end"]
        self._lr_scale, self._bucket_weights = state["lr_scale"][0].tolist(), state["bucket_weights"]
        self._group_scale = state["group_scale"]
        self._state = state["controller"]
        columns = state["history"]
        self._rows = [{name: rows[i] for name, rows in columns.items()} for i in range(len(columns["step"]))]


def choose_controller(policy: Policy | str | os.PathLike[str] | None, controller: Controller | None) -> Controller:
    """The controller of a scheduler that takes a policy (or its path) or any controller, validated.

    With neither, it is the policy that comes with rlsched.
    """
    if policy is not None and controller is not None:
        raise ValueError("give policy=... or controller=..., not both.")
    if controller is not None:
        check_controller("controller", controller)
        unknown = controller.reads - TELEMETRY
        if unknown:
            raise ValueError(
                f"controller reads {sorted(unknown)}, which RLScheduler cannot measure; it can measure "
                f"{sorted(TELEMETRY)}."
            )
        return controller
    if policy is None:
        policy = Policy.default()
    elif isinstance(policy, str | os.PathLike):
        policy = Policy.load(policy)
    if not isinstance(policy, Policy):
        remedy = ": pass it as controller=..." if hasattr(policy, "decide") else ""
        raise TypeError(f"policy must be an rlsched.Policy or its path, got {type(policy).__name__}{remedy}.")
    return PolicyController(policy)


def _structure(state: State) -> dict[str, Any]:
    """The names in a controller's state, nested as it is."""
    return {name: _structure(value) if isinstance(value, dict) else None for name, value in state.items()}


def _pad(values: Array, size: int) -> Array:
    return np.concatenate([values, np.full(size - len(values), np.nan)])
