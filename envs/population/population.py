"""Many inner runs advanced together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rlsched.contract import Array, RunSpec, Window
from rlsched.draws import BucketDraws
from rlsched.envs.population.block import Block
from rlsched.envs.population.stacked_mlp import MLPShape
from rlsched.envs.tasks.task import Task
from rlsched.envs.torch_run import run_seeds, run_spec
from rlsched.telemetry import summarise

CHUNK = 64
"""Rows computed together at most."""


class Population:
    """R runs, each with its own task, seed, learning rate, weights, batch size and horizon.

    Row r does what the `TorchRun` of the same task and seed does, to floating-point tolerance, and does not
    depend on the other rows. Rows are computed in blocks of equal depth by batched operations. Classification
    by multilayer perceptrons under SGD, Adam or AdamW can be stacked; other tasks are refused with the remedy.

    Args:
        tasks: R of them, all with the same number of buckets.
        chunk: rows of a block at most.
        device: where to compute.
    """

    spec: RunSpec

    def __init__(self, tasks: Sequence[Task], *, chunk: int = CHUNK, device: str | torch.device = "cpu") -> None:
        if not tasks:
            raise ValueError("tasks must hold at least one task.")
        counts = {task.buckets.count for task in tasks}
        if len(counts) > 1:
            raise ValueError(f"tasks must have the same number of buckets, got {sorted(counts)}.")
        self.tasks = list(tasks)
        self._chunk, self._device = chunk, torch.device(device)

    def reset(self, seeds: Sequence[int]) -> None:
        """Start every run afresh: model, optimizer and data order of row r follow from its seed alone."""
        models, draws, specs = [], [], []
        for task, seed in zip(self.tasks, seeds, strict=True):
            model_seed, draw_seed, _ = run_seeds(seed)
            models.append(task.make_model(torch.Generator().manual_seed(model_seed)))
            draws.append(BucketDraws(task.buckets, task.config.batch_size, draw_seed))
            specs.append(run_spec(task, task.make_optimizer(models[-1])))
        self.spec = RunSpec.stack(specs)
        self._base_lr = self.spec.base_lr[:, 0]
        shapes = [MLPShape.of(model) for model in models]
        self._rows: list[Array] = []
        self._blocks: list[Block] = []
        for rows in _blocks_of(shapes, self._chunk):
            self._rows.append(np.array(rows))
            self._blocks.append(
                Block(
                    [self.tasks[r] for r in rows],
                    [models[r] for r in rows],
                    [draws[r] for r in rows],
                    self._device,
                )
            )
        self._decision = np.zeros(len(self.tasks), dtype=np.int64)

    def advance(self, n_steps: Array, lr_scale: Array, bucket_weights: Array) -> Window:
        """Train row r for `n_steps[r]` steps; 0 leaves it as it is.

        Args:
            n_steps: (R,) at least 0.
            lr_scale: (R, >= max n_steps) multiplier of the base learning rates at each step.
            bucket_weights: (R, K) probability of drawing from each bucket.

        Returns:
            the telemetry of these steps. A row ends its window at a loss that is not finite.
        """
        width, runs = max(1, int(n_steps.max())), len(self.tasks)
        series = {
            name: np.full((runs, width), np.nan)
            for name in ("losses", "grad_norms", "update_ratios", "grad_agreements")
        }
        bucket_loss = np.full(self.spec.bucket_shares.shape, np.nan)
        lr = self._base_lr[:, None] * lr_scale
        for rows, block in zip(self._rows, self._blocks, strict=True):
            if not n_steps[rows].any():
                continue
            measured = block.advance(n_steps[rows], lr[rows], bucket_weights[rows])
            for name, values in series.items():
                part = getattr(measured, name)
                values[rows, : part.shape[1]] = part
            bucket_loss[rows] = measured.bucket_loss
        self._decision += n_steps > 0
        return summarise(
            self.spec,
            self._gather(lambda block: block.step).astype(np.int64),
            self._decision.copy(),
            bucket_loss=bucket_loss,
            validation_loss=np.full(runs, np.nan),
            **series,
        )

    def validation_loss(self) -> Array:
        """(R,) mean loss of each row on its validation data; not finite if it has diverged."""
        return self._gather(lambda block: block.held_out_loss("validation"))

    def test_loss(self) -> Array:
        """(R,) mean loss of each row on its test data; for the evaluation alone."""
        return self._gather(lambda block: block.held_out_loss("test"))

    def state_dict(self) -> dict[str, Any]:
        """Everything the rest of the runs depends on, copied."""
        return {"blocks": [block.state_dict() for block in self._blocks], "decision": self._decision.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` of a population of the same tasks was taken, bit for bit."""
        for block, saved in zip(self._blocks, state["blocks"], strict=True):
            block.load_state_dict(saved)
        self._decision = state["decision"].copy()

    def branch(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy the state of rows `sources` onto rows `targets`, pair by pair; a pair must be of one task.

        Afterwards the two go on alike for as long as they are scheduled alike: they draw the same batches.
        """
        where = {
            int(row): (block, position)
            for rows, block in zip(self._rows, self._blocks, strict=True)
            for position, row in enumerate(rows)
        }
        for source, target in zip(sources, targets, strict=True):
            if self.tasks[source] is not self.tasks[target]:
                raise ValueError(f"rows {source} and {target} are of different tasks: branch rows of one task.")
            (from_block, from_row), (block, row) = where[source], where[target]
            block.copy_row(row, from_block, from_row)
            self._decision[target] = self._decision[source]

    def _gather(self, read: Any) -> Array:
        out = np.zeros(len(self.tasks))
        for rows, block in zip(self._rows, self._blocks, strict=True):
            out[rows] = read(block)
        return out


def _blocks_of(shapes: Sequence[MLPShape], chunk: int) -> list[list[int]]:
    """Rows in blocks of at most `chunk`: of one depth, similar size, and sorted by activation inside."""
    depths: dict[int, list[int]] = {}
    for row, shape in enumerate(shapes):
        depths.setdefault(len(shape.sizes), []).append(row)
    blocks = []
    for rows in depths.values():
        rows.sort(key=lambda row: shapes[row].sizes)
        for start in range(0, len(rows), chunk):
            block = rows[start : start + chunk]
            blocks.append(sorted(block, key=lambda row: shapes[row].activation))
    return blocks
