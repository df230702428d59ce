"""Rows of a population that are computed together: MLPs of one depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from rlsched.contract import Array
from rlsched.draws import BucketDraws
from rlsched.envs.population.stacked_mlp import MLPShape, StackedMLP
from rlsched.envs.population.stacked_optimizer import OptimizerSettings, StackedOptimizer
from rlsched.envs.tasks.task import Task, cross_entropy
from rlsched.monitor import SNAPSHOT_ELEMENTS
from rlsched.telemetry import is_sampled


@dataclass(eq=False)
class Series:
    """What `Block.advance` measured: arrays (r, W) over r rows and the steps of a window, NaN where nothing was.

    `bucket_loss` is (r, K), a mean over the window. `losses` is +inf where a loss was not finite.
    """

    losses: Array
    grad_norms: Array
    update_ratios: Array
    grad_agreements: Array
    bucket_loss: Array


class Block:
    """Runs of equal depth, advanced by one set of batched operations a step.

    Args:
        tasks: of each row.
        models: of each row, freshly initialised.
        draws: of each row, the stream of its batches.
        device: where to compute.

    Raises:
        ValueError: a task cannot be stacked; the message says why, and the remedy.
    """

    def __init__(
        self, tasks: Sequence[Task], models: Sequence[nn.Module], draws: list[BucketDraws], device: torch.device
    ) -> None:
        dtype = next(models[0].parameters()).dtype
        self.tasks, self.draws, self._device = list(tasks), draws, device
        self.mlp = StackedMLP([MLPShape.of(model) for model in models], dtype, device)
        if self.mlp.parameters.shape[1] > SNAPSHOT_ELEMENTS:
            raise ValueError(f"a stacked model has at most {SNAPSHOT_ELEMENTS} parameters: use TorchRun for it.")
        settings = []
        for row, (task, model) in enumerate(zip(tasks, models, strict=True)):
            self.mlp.load(row, model)
            settings.append(OptimizerSettings.of(task.make_optimizer(model)))
        self.optimizer = StackedOptimizer(settings, self.mlp.parameters)
        self.step = np.zeros(len(tasks), dtype=np.int64)
        self.last_gradient = torch.zeros_like(self.mlp.parameters)
        self.last_gradient_step = np.full(len(tasks), -2)  # none: not even the step before the first

        parts = [_tensors(task) for task in tasks]
        self._offsets = np.cumsum([0, *(len(labels) for _, labels in parts[:-1])])
        self._features = torch.cat([self._pad(features, dtype) for features, _ in parts])
        self._labels = torch.cat([labels for _, labels in parts]).to(device)
        sizes = [task.config.batch_size for task in tasks]
        self._weights = torch.zeros(len(tasks), max(sizes), dtype=dtype, device=device)
        for row, size in enumerate(sizes):
            self._weights[row, :size] = 1.0 / size
        self._held_out: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def advance(self, n_steps: Array, lr: Array, bucket_weights: Array) -> Series:
        """Train each row for its `n_steps` (r,) steps at learning rates `lr` (r, W), or until it diverges."""
        width = int(n_steps.max())
        indices, bucket_ids = self._draw(n_steps, bucket_weights)
        measured = np.full((3, len(self.tasks), width), np.nan)
        losses, done = [], np.zeros(len(self.tasks), dtype=np.int64)
        alive = np.ones(len(self.tasks), dtype=bool)
        means = np.full((len(self.tasks), width), np.nan)
        for offset in range(width):
            active = alive & (offset < n_steps)
            if not active.any():
                break
            batch = indices[offset].reshape(-1)
            features = self._features.index_select(0, batch).view(*indices[offset].shape, -1)
            labels = self._labels.index_select(0, batch).view(indices[offset].shape)
            each = self.mlp.backward(features, labels, self._weights)
            sampled = active & [is_sampled(offset, int(n)) for n in n_steps]
            before = self.mlp.parameters.clone() if sampled.any() else None
            self.optimizer.step(self.mlp.gradients, lr[:, offset], active)
            if before is not None:
                self._measure(before, sampled, measured[:, :, offset])
            mean = (each * self._weights).sum(dim=1).double().cpu().numpy()
            means[active, offset] = np.where(np.isfinite(mean), mean, np.inf)[active]
            losses.append(each)
            done += active
            self.step += active
            alive &= np.isfinite(mean) | ~active
        norms, ratios, agreements = measured
        return Series(means, norms, ratios, agreements, self._bucket_loss(losses, bucket_ids, means))

    def held_out_loss(self, part: str) -> Array:
        """(r,) mean loss on each row's `part`, "validation" or "test"."""
        if part not in self._held_out:
            self._held_out[part] = self._stack([getattr(task, part) for task in self.tasks])
        features, labels, weights = self._held_out[part]
        losses = self.mlp.losses(features, labels)
        return np.asarray((losses * weights).sum(dim=1).double().cpu().numpy())

    def state_dict(self) -> dict[str, Any]:
        """Everything the rest of the runs depends on, copied."""
        return {
            "parameters": self.mlp.parameters.clone(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step.copy(),
            "last_gradient": self.last_gradient.clone(),
            "last_gradient_step": self.last_gradient_step.copy(),
            "draws": [draws.state_dict() for draws in self.draws],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, bit for bit."""
        self.mlp.parameters.copy_(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"].copy()
        self.last_gradient.copy_(state["last_gradient"])
        self.last_gradient_step = state["last_gradient_step"].copy()
        for draws, saved in zip(self.draws, state["draws"], strict=True):
            draws.load_state_dict(saved)

    def copy_row(self, row: int, source: Block, source_row: int) -> None:
        """Let `row` stand where `source_row` of `source`, a run of the same task, stands."""
        for mine, theirs in (
            (self.mlp.parameters, source.mlp.parameters),
            (self.optimizer.first, source.optimizer.first),
            (self.optimizer.second, source.optimizer.second),
            (self.last_gradient, source.last_gradient),
        ):
            if mine.shape[1] == 0 or theirs.shape[1] == 0:
                continue  # no row of a block of SGD runs has a second moment
            pairs = zip(self.mlp.row(mine, row), source.mlp.row(theirs, source_row), strict=True)
            for (weight, bias), (their_weight, their_bias) in pairs:
                weight.copy_(their_weight)
                bias.copy_(their_bias)
        self.step[row] = source.step[source_row]
        self.optimizer.steps[row] = source.optimizer.steps[source_row]
        self.last_gradient_step[row] = source.last_gradient_step[source_row]
        self.draws[row].load_state_dict(source.draws[source_row].state_dict())

    def _draw(self, n_steps: Array, bucket_weights: Array) -> tuple[Tensor, Array]:
        """Rows of `_features` (W, r, B) for every step, and the bucket (W, r, B) of each, -1 for padding."""
        shape = (int(n_steps.max()), *self._weights.shape)
        indices = np.broadcast_to(self._offsets[:, None], shape).copy()
        ids = np.full(shape, -1)
        for row, (draws, n) in enumerate(zip(self.draws, n_steps, strict=True)):
            if n > 0:
                drawn, buckets = draws.draw(bucket_weights[row], int(n))
                indices[:n, row, : drawn.shape[1]] += drawn
                ids[:n, row, : drawn.shape[1]] = buckets
        return torch.from_numpy(indices).to(self._device), ids

    def _measure(self, before: Tensor, sampled: Array, out: Array) -> None:
        """Gradient norm, |update| / |parameters| and cosine with the step before, of `sampled` rows (3, r)."""
        gradient = self.mlp.gradients
        update = self.mlp.parameters - before
        squares = [values.square().sum(dim=1) for values in (gradient, update, before, self.last_gradient)]
        product = (gradient * self.last_gradient).sum(dim=1)
        norm, moved, size, last = (values.sqrt().double().cpu().numpy() for values in squares)
        follows = self.last_gradient_step == self.step - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            cosine = product.double().cpu().numpy() / (np.maximum(norm, 1e-8) * np.maximum(last, 1e-8))
            values = np.stack([norm, np.where(size > 0, moved / size, np.nan), np.where(follows, cosine, np.nan)])
        kept = sampled & np.isfinite(norm)
        out[:, kept] = values[:, kept]
        if kept.all():
            self.last_gradient.copy_(gradient)
        else:
            rows = torch.from_numpy(kept).to(self._device)
            self.last_gradient[rows] = gradient[rows]
        self.last_gradient_step[kept] = self.step[kept]

    def _bucket_loss(self, losses: list[Tensor], ids: Array, means: Array) -> Array:
        """(r, K) mean loss of the examples drawn from each bucket, over the steps whose loss was finite."""
        rows, buckets = len(self.tasks), self.tasks[0].buckets.count
        if not losses:
            return np.full((rows, buckets), np.nan)
        values = torch.stack(losses).double().cpu().numpy()
        counted = (ids[: len(losses)] >= 0) & np.isfinite(means[:, : len(losses)]).T[:, :, None]
        index = (np.arange(rows)[:, None] * buckets + ids[: len(losses)])[counted]
        total = np.bincount(index, weights=values[counted], minlength=rows * buckets)
        count = np.bincount(index, minlength=rows * buckets)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(rows, buckets)

    def _stack(self, batches: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """Batches padded to one: features (r, V, D), labels (r, V), and weights (r, V) that make a mean."""
        longest = max(len(labels) for _, labels in batches)
        dtype = self._features.dtype
        features = torch.zeros(len(batches), longest, self.mlp.sizes[0], dtype=dtype)
        labels = torch.zeros(len(batches), longest, dtype=torch.int64)
        weights = torch.zeros(len(batches), longest, dtype=dtype)
        for row, (x, y) in enumerate(batches):
            features[row, : len(y), : x.shape[1]] = x
            labels[row, : len(y)] = y
            weights[row, : len(y)] = 1.0 / len(y)
        return features.to(self._device), labels.to(self._device), weights.to(self._device)

    def _pad(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        return nn.functional.pad(features.to(self._device, dtype), (0, self.mlp.sizes[0] - features.shape[1]))


def _tensors(task: Task) -> tuple[Tensor, Tensor]:
    """Features and labels of a task's training data; ValueError with the remedy if it is of another kind."""
    if task.loss is not cross_entropy or not isinstance(task.train, TensorDataset) or len(task.train.tensors) != 2:
        raise ValueError(
            "a stacked task must be classification of a TensorDataset of features and labels by "
            "rlsched.envs.tasks.task.cross_entropy: use TorchRun for others."
        )
    features, labels = task.train.tensors
    return features, labels
