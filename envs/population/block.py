"""Rows of a population that are computed together, by stacked operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlsched.contract import Array, RunSpec, Window
from rlsched.envs.data_order import DataOrder
from rlsched.envs.population.gradients import GradientStatistics
from rlsched.envs.population.network import Network
from rlsched.envs.population.stacked_data import StackedData
from rlsched.envs.population.stacked_draws import StackedDraws
from rlsched.envs.population.stacked_optimizer import OptimizerSettings, StackedOptimizer
from rlsched.envs.tasks.task import Task
from rlsched.telemetry import is_sampled, summarise


@dataclass(eq=False)
class Row:
    """One run of a block: its task, what is fixed about it, and the order of its data."""

    task: Task
    spec: RunSpec
    order: DataOrder


class StackedBlock:
    """Runs that are advanced by one set of stacked operations a step.

    Args:
        rows: the runs.
        network: of their models, loaded.
        settings: of their optimizers.
    """

    def __init__(self, rows: Sequence[Row], network: Network, settings: OptimizerSettings) -> None:
        self._rows, self._network = list(rows), network
        self.spec = RunSpec.stack([row.spec for row in rows])
        self._optimizer = StackedOptimizer(settings, network.layout, network.parameters)
        self._gradients = GradientStatistics(network)
        self._step = np.zeros(len(rows), dtype=np.int64)
        self._decision = np.zeros(len(rows), dtype=np.int64)
        sizes = [row.task.config.batch_size for row in rows]
        self._draws = StackedDraws([row.order for row in rows], sizes)
        self._data = StackedData([row.task for row in rows], network)
        self._weights = self._data.weights

    def advance(self, n_steps: Array, lr_scale: Array, bucket_weights: Array) -> Window:
        """Train each row for its `n_steps` (r,) steps, or until it diverges; see `Population.advance`."""
        width = int(n_steps.max())
        indices, ids = self._draws.draw(bucket_weights, n_steps, self._step)
        places = self._data.places(indices, self._step)
        lr = self.spec.base_lr[:, :1] * lr_scale
        statistics = np.full((3, len(self._rows), width), np.nan)
        each = torch.zeros(width, *self._weights.shape, dtype=self._network.dtype, device=self._network.device)
        sampled = is_sampled(np.arange(width)[:, None], n_steps)
        ran = np.zeros((width, len(self._rows)), dtype=bool)
        alive = n_steps > 0
        for offset in range(width):
            active = ran[offset] = alive & (offset < n_steps)
            if not active.any():
                break
            measured = statistics[:, :, offset]
            losses = self._train_step(places[offset], lr[:, offset], active, active & sampled[offset], measured)
            each[offset] = losses
            self._step += active
            # One number is enough to see that all is well.
            if not math.isfinite(losses.sum().item()):
                alive &= torch.isfinite(losses).all(dim=1).cpu().numpy() | ~active
        return self._close(
            n_steps, indices, ids, each.double().cpu().numpy().transpose(1, 0, 2), ran.T, statistics
        )

    def _train_step(self, places: Tensor, lr: Array, active: Array, sampled: Array, measured: Array) -> Tensor:
        """One step of the `active` rows: losses (r, B). Statistics of `sampled` rows go to `measured` (3, r)."""
        losses = self._network.backward(self._data.batch(places), self._weights)
        idle = np.flatnonzero(~active)
        kept = [tensor[idle] for tensor in self._states()] if len(idle) else []
        measure = bool(sampled.any())
        if measure:
            self._gradients.before_step(sampled, self._step)
        moved = self._optimizer.step(self._network.gradients, lr, measure)
        if moved is not None:
            measured[:, sampled] = self._gradients.after_step(moved)[:, sampled]
        if len(idle):
            for tensor, values in zip(self._states(), kept, strict=True):
                tensor[idle] = values
            self._optimizer.steps[idle] -= 1
        return losses

    def _close(
        self, n_steps: Array, indices: Array, ids: Array, each: Array, ran: Array, statistics: Array
    ) -> Window:
        """The window's telemetry, from losses (r, W, B) of the steps that `ran` (r, W) and `statistics` (3, r, W).

        Then the buckets of online rows are refreshed.
        """
        norms, ratios, agreements = statistics
        with np.errstate(invalid="ignore"):  # of a row that diverges
            means = (each * self._weights.double().cpu().numpy()[:, None]).sum(axis=2)
        losses = np.where(ran, np.where(np.isfinite(means), means, np.inf), np.nan)
        bucket_loss = self._bucket_loss(ids, each, losses)
        probes = {row: self._rows[row].task.probe for row in np.flatnonzero(n_steps)}
        if any(probe is not None for probe in probes.values()):
            on_probe = self._data.losses("probe")
            for row, probe in probes.items():
                if probe is not None:
                    mean = self._rows[row].order.bucket_means(on_probe[row, : len(probe)], int(self._step[row]))
                    bucket_loss[row] = np.where(np.isnan(mean), bucket_loss[row], mean)
        for row in probes:
            size, sound = self._rows[row].task.config.batch_size, np.isfinite(losses[row])
            self._rows[row].order.close_window(indices[row, sound, :size], each[row, sound, :size])
        self._decision += n_steps > 0
        return summarise(
            self.spec,
            self._step.copy(),
            self._decision.copy(),
            losses=losses,
            grad_norms=norms,
            update_ratios=ratios,
            grad_agreements=agreements,
            bucket_loss=bucket_loss,
            validation_loss=np.full(len(self._rows), np.nan),
        )

    def counters(self) -> tuple[Array, Array]:
        """Steps and decisions (r,) done so far."""
        return self._step, self._decision

    def validation_loss(self) -> Array:
        """(r,) mean loss of each row on its validation data."""
        return self._data.mean_losses("validation")

    def test_loss(self) -> Array:
        """(r,) mean loss of each row on its test data."""
        return self._data.mean_losses("test")

    def state_dict(self) -> dict[str, Any]:
        """Everything the rest of the runs depends on, copied."""
        return {
            "parameters": self._network.parameters.clone(),
            "constants": self._network.constants(),
            "optimizer": self._optimizer.state_dict(),
            "last_gradient": self._gradients.last.clone(),
            "last_gradient_norm": self._gradients.last_norm.copy(),
            "last_gradient_step": self._gradients.last_step.copy(),
            "step": self._step.copy(),
            "decision": self._decision.copy(),
            "orders": [row.order.state_dict() for row in self._rows],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, bit for bit."""
        self._network.parameters.copy_(state["parameters"])
        self._network.load_constants(state["constants"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._gradients.last.copy_(state["last_gradient"])
        self._gradients.last_norm = state["last_gradient_norm"].copy()
        self._gradients.last_step = state["last_gradient_step"].copy()
        self._step, self._decision = state["step"].copy(), state["decision"].copy()
        for row, saved in zip(self._rows, state["orders"], strict=True):
            row.order.load_state_dict(saved)

    def row_state(self, row: int) -> dict[str, Any]:
        """Where one row stands, without the padding of this block."""
        flats = [self._network.parameters, *self._optimizer.moments(), self._gradients.last]
        return {
            "constants": {name: values[row] for name, values in self._network.constants().items()},
            "tensors": [[part.clone() for part in self._network.row(flat, row)] for flat in flats],
            "optimizer_steps": self._optimizer.steps[row],
            "last_gradient_norm": self._gradients.last_norm[row],
            "last_gradient_step": self._gradients.last_step[row],
            "step": self._step[row],
            "decision": self._decision[row],
            "order": self._rows[row].order.state_dict(),
        }

    def load_row_state(self, row: int, state: dict[str, Any]) -> None:
        """Let `row` stand where another row of the same task, perhaps of another block, stood."""
        constants = self._network.constants()
        for name, values in state["constants"].items():
            constants[name][row] = values
        self._network.load_constants(constants)
        flats = [self._network.parameters, *self._optimizer.moments(), self._gradients.last]
        for flat, parts in zip(flats, state["tensors"], strict=True):
            for mine, theirs in zip(self._network.row(flat, row), parts, strict=True):
                mine.copy_(theirs)
        self._optimizer.steps[row] = state["optimizer_steps"]
        self._gradients.last_norm[row] = state["last_gradient_norm"]
        self._gradients.last_step[row] = state["last_gradient_step"]
        self._step[row], self._decision[row] = state["step"], state["decision"]
        self._rows[row].order.load_state_dict(state["order"])

    def _states(self) -> list[Tensor]:
        """All that an optimizer step changes, as (r, ...) views."""
        flats = [self._network.parameters, *self._optimizer.moments()]
        return [view for flat in flats for view in self._network.layout.views(flat)]

    def _bucket_loss(self, ids: Array, each: Array, losses: Array) -> Array:
        """(r, K) mean loss of the examples drawn from each bucket, over the steps whose loss was finite."""
        rows, buckets = self.spec.bucket_shares.shape
        counted = (ids >= 0) & np.isfinite(losses)[:, :, None]
        index = (ids + np.arange(rows)[:, None, None] * buckets)[counted]
        total = np.bincount(index, weights=each[counted], minlength=rows * buckets)
        count = np.bincount(index, minlength=rows * buckets)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(rows, buckets)
