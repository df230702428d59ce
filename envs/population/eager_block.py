"""Rows of a population that cannot be computed together: one eager loop after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlsched.contract import GROUP_TELEMETRY, Array, RunSpec, Window
from rlsched.envs.torch_run import TorchRun


class EagerBlock:
    """`TorchRun`s behind the interface of a `StackedBlock`.

    Args:
        runs: after `reset`, without `group_rates`: this interface has one learning rate for all groups of a row.
    """

    def __init__(self, runs: Sequence[TorchRun]) -> None:
        self._runs = list(runs)
        self.spec = RunSpec.stack([run.spec for run in runs])
        if self.spec.group_rates.any():
            raise ValueError("runs must be made without group_rates=True: a block cannot scale parameter groups.")
        self._windows = [Window.opening(run.spec) for run in runs]

    def advance(self, n_steps: Array, lr_scale: Array, bucket_weights: Array) -> Window:
        """Train each row for its `n_steps` (r,) steps, or until it diverges; see `Population.advance`."""
        for row, n in enumerate(n_steps):
            if n:
                self._windows[row] = self._runs[row].advance(int(n), lr_scale[row], bucket_weights[row])
        fields = {field.name for field in dataclasses.fields(Window)} - {"spec"} - GROUP_TELEMETRY
        joined = {name: np.concatenate([getattr(window, name) for window in self._windows]) for name in fields}
        joined["step"], joined["decision"] = self.counters()
        return Window(spec=self.spec, **joined)

    def counters(self) -> tuple[Array, Array]:
        """Steps and decisions (r,) done so far."""
        counts = np.array([run.counters() for run in self._runs])
        return counts[:, 0], counts[:, 1]

    def validation_loss(self) -> Array:
        """(r,) mean loss of each row on its validation data."""
        return np.array([run.validation_loss() for run in self._runs])

    def test_loss(self) -> Array:
        """(r,) mean loss of each row on its test data."""
        return np.array([run.test_loss() for run in self._runs])

    def state_dict(self) -> dict[str, Any]:
        """Everything the rest of the runs depends on, copied."""
        return {"runs": [run.state_dict() for run in self._runs]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, bit for bit."""
        for run, saved in zip(self._runs, state["runs"], strict=True):
            run.load_state_dict(saved)

    def row_state(self, row: int) -> dict[str, Any]:
        """Where one row stands."""
        return self._runs[row].state_dict()

    def load_row_state(self, row: int, state: dict[str, Any]) -> None:
        """Let `row` stand where another row of the same task stood."""
        self._runs[row].load_state_dict(state)
