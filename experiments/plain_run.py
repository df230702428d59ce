"""Plain PyTorch runs on a task, with torch's own schedulers or with rlsched: what a user would write."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from rlsched import CurriculumSampler, OnlineBuckets, Policy, RLScheduler
from rlsched.contract import Array
from rlsched.envs.tasks import Task

TORCH_SCHEDULES: dict[str, Callable[[Optimizer, int], LRScheduler]] = {
    "constant": lambda optimizer, steps: ConstantLR(optimizer, factor=1.0),
    "linear": lambda optimizer, steps: LinearLR(optimizer, 1.0, 0.0, total_iters=steps),
    "cosine": lambda optimizer, steps: CosineAnnealingLR(optimizer, T_max=steps),
}
FLOOR = 1e-12


@dataclass(frozen=True, eq=False)
class RunResult:
    """What came of a run.

    Attributes:
        test_loss: at the end, inf if it is not finite.
        validation_loss: likewise.
        losses: (T,) training loss at each step.
        lr: (T,) learning rate of the first group at each step.
        bucket_weights: (T, K) of each step's batch; (T, 0) without a curriculum.
    """

    test_loss: float
    validation_loss: float
    losses: Array
    lr: Array
    bucket_weights: Array


def run_schedule(task: Task, seed: int, name: str, *, order_seed: int | None = None) -> RunResult:
    """Train `task` with one of `TORCH_SCHEDULES` on ordinary batches, shuffled by `order_seed` or else `seed`."""
    model, optimizer, loader = _start(task, seed, order_seed)
    num_steps = task.config.num_steps
    scheduler = TORCH_SCHEDULES[name](optimizer, num_steps)
    losses, rates = [], []
    batches = iter(loader)
    for _ in range(num_steps):
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        loss = task.loss(model, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        rates.append(float(optimizer.param_groups[0]["lr"]))
        losses.append(float(loss.detach()))
        optimizer.step()
        scheduler.step()
    return _result(task, model, losses, rates, [np.zeros(0)] * num_steps)


def run_policy(
    task: Task, seed: int, policy: Policy, *, curriculum: bool, feedback: bool = False, guard: bool = True
) -> RunResult:
    """Train `task` with `policy` through `RLScheduler`, and `CurriculumSampler` if `curriculum`.

    With `feedback`, the policy is told the validation loss before each decision.
    """
    model, optimizer, loader = _start(task, seed)
    config = task.config
    scheduler = RLScheduler(
        optimizer,
        config.num_steps,
        policy,
        num_decisions=config.num_decisions,
        batch_size=config.batch_size,
        validate=(lambda: _mean_loss(task, model, task.validation)) if feedback else None,
        guard=guard,
        on_event=lambda event: None,
    )
    if curriculum:
        buckets = OnlineBuckets(len(task.buckets), task.buckets.count, seed=seed) if task.online else task.buckets
        sampler = CurriculumSampler(buckets, config.batch_size, scheduler, seed=seed)
        loader = DataLoader(task.train, batch_sampler=sampler)
    losses, rates, weights = [], [], []
    batches = iter(loader)
    for _ in range(config.num_steps):
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        per_example = task.loss(model, batch)
        optimizer.zero_grad()
        per_example.mean().backward()
        rates.append(float(optimizer.param_groups[0]["lr"]))
        weights.append(scheduler.bucket_weights if curriculum else np.zeros(0))
        losses.append(float(per_example.detach().mean()))
        optimizer.step()
        scheduler.step(per_example)
    return _result(task, model, losses, rates, weights)


def _start(task: Task, seed: int, order_seed: int | None = None) -> tuple[torch.nn.Module, Optimizer, DataLoader]:
    """Model, optimizer and a shuffled loader; every method gets the same ones for the same seed."""
    model = task.make_model(torch.Generator().manual_seed(seed))
    order = torch.Generator().manual_seed(seed if order_seed is None else order_seed)
    shuffled = RandomSampler(task.train, generator=order)  # type: ignore[arg-type]
    batches = BatchSampler(shuffled, task.config.batch_size, drop_last=True)
    return model, task.make_optimizer(model), DataLoader(task.train, batch_sampler=batches)


def _result(
    task: Task, model: torch.nn.Module, losses: list[float], rates: list[float], weights: list[Array]
) -> RunResult:
    test, validation = (_mean_loss(task, model, batch) for batch in (task.test, task.validation))
    return RunResult(
        test_loss=max(test, FLOOR) if math.isfinite(test) else math.inf,
        validation_loss=max(validation, FLOOR) if math.isfinite(validation) else math.inf,
        losses=np.array(losses),
        lr=np.array(rates),
        bucket_weights=np.array(weights),
    )


def _mean_loss(task: Task, model: torch.nn.Module, batch: Any) -> float:
    training = model.training
    model.eval()
    with torch.no_grad():
        loss = float(task.loss(model, batch).mean())
    model.train(training)
    return loss
