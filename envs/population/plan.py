"""Which rows of a population are computed together, and how."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.data import TensorDataset

from rlsched.envs.population.heads import HEADS
from rlsched.envs.population.stacked_mlp import ALIGNMENT, MLPShape
from rlsched.envs.population.stacked_module import structure, why_not
from rlsched.envs.population.stacked_optimizer import OptimizerSettings
from rlsched.envs.tasks.task import Task
from rlsched.monitor import SNAPSHOT_ELEMENTS

CHUNK = 64
"""Rows computed together at most: more of them no longer fit the caches (measured by `rlsched bench`)."""
STEP_OVERHEAD = 30e6
"""What a stacked step costs whatever its size, in floating-point operations: about 0.5 ms of them."""
MIN_MODULE_ROWS = 3
"""Of fewer rows, eager loops are as fast as `torch.func`. A stack of MLPs is faster even of one."""


@dataclass(frozen=True)
class Plan:
    """How one row is computed.

    Attributes:
        path: "mlp" (stacked by hand), "module" (stacked by `torch.func`) or "eager".
        key: rows may be computed together if their keys are equal.
        reason: why the row cannot be stacked; empty if it can.
        settings: of a stacked row's optimizer.
        shape: of an MLP.
        batch_size: of the row.
    """

    path: str
    key: Hashable = None
    reason: str = ""
    settings: OptimizerSettings | None = None
    shape: MLPShape | None = None
    batch_size: int = 1

    def work(self, sizes: Sequence[int]) -> float:
        """Floating-point operations of a step of this row, its layers padded to `sizes`."""
        padded = [sizes[0], *(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes[1:])]
        return 6.0 * self.batch_size * sum(a * b for a, b in itertools.pairwise(padded))


def plan_row(task: Task, model: nn.Module, optimizer: Optimizer) -> Plan:
    """The fastest way of computing a run of `task` that begins with `model` and `optimizer`."""
    settings = OptimizerSettings.of(optimizer)
    reason = settings if isinstance(settings, str) else _why_not(task, model, optimizer)
    if reason or isinstance(settings, str):
        return Plan("eager", reason=reason or "")
    assert isinstance(task.train, TensorDataset)
    tensors, dtype, size = task.train.tensors, next(model.parameters()).dtype, task.config.batch_size
    shape = MLPShape.of(model)
    if shape is not None and task.loss in HEADS and len(tensors) == 2 and tensors[0].ndim == 2:
        return Plan("mlp", ("mlp", len(shape.sizes), task.loss, dtype, settings), "", settings, shape, size)
    tails = tuple((tuple(values.shape[1:]), values.dtype) for values in tensors)
    key = ("module", structure(model), _identity(task.loss), dtype, tails, settings)
    return Plan("module", key, settings=settings, batch_size=size)


def _why_not(task: Task, model: nn.Module, optimizer: Optimizer) -> str | None:
    """Why a run cannot be stacked, or None."""
    for part in (task.train, task.drifted):
        if part is not None and not isinstance(part, TensorDataset):
            return f"its data set is not a TensorDataset, but a {type(part).__name__}"
    parameters = list(model.parameters())
    if len({parameter.dtype for parameter in parameters}) != 1:
        return "its parameters are not of one type"
    optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if optimized != {id(parameter) for parameter in parameters}:
        return "its optimizer does not train exactly the parameters of its model"
    if sum(parameter.numel() for parameter in parameters) > SNAPSHOT_ELEMENTS:
        return f"it has more than {SNAPSHOT_ELEMENTS} parameters"
    return why_not(model)


def _identity(loss: Any) -> Hashable:
    if isinstance(loss, functools.partial):
        return loss.func, repr(loss.args), repr(sorted(loss.keywords.items()))
    return loss


def blocks(plans: Sequence[Plan], chunk: int) -> list[list[int]]:
    """Rows in blocks of equal keys and at most `chunk`, so that padding and overhead together cost least."""
    groups: dict[Hashable, list[int]] = {}
    for row, plan in enumerate(plans):
        groups.setdefault(plan.key, []).append(row)
    result = []
    for rows in groups.values():
        if plans[rows[0]].path == "mlp":
            result += _cut(plans, rows, chunk)
        else:
            result += [rows[start : start + chunk] for start in range(0, len(rows), chunk)]
    return result


def _cut(plans: Sequence[Plan], rows: list[int], chunk: int) -> list[list[int]]:
    """Blocks of MLPs of similar sizes, by dynamic programming over where to cut the rows sorted by size.

    In a block rows of one activation lie side by side.
    """
    shapes = {row: plans[row].shape for row in rows}
    rows = sorted(rows, key=lambda row: (plans[row].work(_sizes(shapes[row])), row))
    # best[i]: least cost of the first i rows, and where its last block begins.
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(rows) + 1):
        padded, batch, options = list(_sizes(shapes[rows[end - 1]])), 1, []
        for start in range(end - 1, max(end - 1 - chunk, -1), -1):
            plan = plans[rows[start]]
            padded = [max(a, b) for a, b in zip(padded, _sizes(plan.shape), strict=True)]
            batch = max(batch, plan.batch_size)
            work = (end - start) * plan.work(padded) * batch / plan.batch_size
            options.append((best[start][0] + STEP_OVERHEAD + work, start))
        best.append(min(options))
    cut, end = [], len(rows)
    while end > 0:
        start = best[end][1]
        cut.append(sorted(rows[start:end], key=lambda row: (_activation(shapes[row]), row)))
        end = start
    return cut[::-1]


def _sizes(shape: MLPShape | None) -> tuple[int, ...]:
    assert shape is not None
    return shape.sizes


def _activation(shape: MLPShape | None) -> int:
    assert shape is not None
    return shape.activation
