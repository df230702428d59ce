"""Which rows of a population are computed together, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import TensorDataset

from rlsched.envs.population.cut import cut, work
from rlsched.envs.population.fingerprint import fingerprint, structure
from rlsched.envs.population.heads import head_of
from rlsched.envs.population.stackable import why_not
from rlsched.envs.population.stacked_mlp import MLPShape
from rlsched.envs.population.stacked_optimizer import OptimizerSettings
from rlsched.envs.tasks.task import Task

CHUNK = 64
"""Rows computed together at most: fewer cost more overhead, more gain nothing (measured by `rlsched bench`)."""
MIN_MODULE_ROWS = 3
"""Of fewer rows, eager loops are as fast as `torch.func`. A stack of MLPs is faster even of one."""


@dataclass(frozen=True)
class Plan:
    """How one row is computed.

    Attributes:
        path: "mlp" (stacked by hand), "module" (stacked by `torch.func`) or "eager".
        key: rows may be computed together if their keys are equal.
        reason: why the row cannot be stacked; empty if it can.
        note: why it is not, although it could.
        settings: of a stacked row's optimizer.
        sizes: of an MLP's layers.
        activation: of an MLP, by which rows of a block are sorted.
        batch_size: of the row.
    """

    path: str
    key: Hashable = None
    reason: str = ""
    settings: OptimizerSettings | None = None
    sizes: tuple[int, ...] = ()
    activation: int = 0
    batch_size: int = 1
    note: str = ""


def plan_row(task: Task, model: nn.Module, optimizer: Optimizer) -> Plan:
    """The fastest way of computing a run of `task` that begins with `model` and `optimizer`."""
    settings, reason = OptimizerSettings.of(optimizer), why_not(task, model, optimizer)
    if isinstance(settings, str):
        return Plan("eager", reason=f"{settings}; {reason}" if reason else settings)
    if reason:
        return Plan("eager", reason=reason)
    assert isinstance(task.train, TensorDataset)
    tensors, dtype, size = task.train.tensors, next(model.parameters()).dtype, task.config.batch_size
    shape = MLPShape.of(model)
    if shape is not None and head_of(task.loss) is not None and len(tensors) == 2 and tensors[0].ndim == 2:
        key: Hashable = ("mlp", len(shape.sizes), head_of(task.loss), dtype, settings)
        return Plan("mlp", key, "", settings, shape.sizes, shape.activation, size)
    tails = tuple((tuple(values.shape[1:]), values.dtype) for values in tensors)
    # Of equal batch sizes, so that a loss may compare the examples of its batch.
    key = ("module", structure(model), fingerprint(task.loss), dtype, tails, settings, size)
    return Plan("module", key, settings=settings, batch_size=size)


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
            count = -(-len(rows) // chunk)
            result += [rows[len(rows) * i // count : len(rows) * (i + 1) // count] for i in range(count)]
    return result


def enough(plans: Sequence[Plan]) -> list[Plan]:
    """`plans`, but for module rows that too few others can be stacked with: these become eager."""
    sizes = Counter(plan.key for plan in plans)
    few = f"fewer than {MIN_MODULE_ROWS} runs have its structure, loss and batch size"
    return [
        Plan("eager", note=few) if plan.path == "module" and sizes[plan.key] < MIN_MODULE_ROWS else plan
        for plan in plans
    ]


def _cut(plans: Sequence[Plan], rows: list[int], chunk: int) -> list[list[int]]:
    """Blocks of MLPs of similar sizes; in a block rows of one activation lie side by side."""
    sizes = np.array([plans[row].sizes for row in rows])
    batch_sizes = np.array([plans[row].batch_size for row in rows])
    order = np.argsort(work(sizes, batch_sizes), kind="stable")
    return [
        sorted((rows[place] for place in order[start:stop]), key=lambda row: (plans[row].activation, row))
        for start, stop in cut(sizes[order], batch_sizes[order], chunk)
    ]
