"""One plain training loop, under torch's schedules or under a policy."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from rlsched import CurriculumSampler, OnlineBuckets, Policy, RLScheduler
from rlsched.experiments.plain_run import TORCH_SCHEDULES
from rlsched.experiments.real_cases.problem import Problem

STEPS, BATCH = 500, 32


@torch.no_grad()
def mean_loss(problem: Problem, model: nn.Module, data: TensorDataset) -> float:
    """Of `model` in evaluation mode, over all of `data`."""
    model.eval()
    x, y = data.tensors
    total = sum(
        float(problem.loss(model(some), targets).sum())
        for some, targets in zip(x.split(512), y.split(512), strict=True)
    )
    model.train()
    return total / len(x)


def run(
    problem: Problem,
    seed: int,
    lr: float,
    *,
    schedule: str = "",
    policy: Policy | None = None,
    curriculum: bool = False,
    feedback: bool = False,
) -> tuple[float, float]:
    """Train for `STEPS` steps of AdamW from `lr`; validation and test loss at the end.

    Args:
        problem: what is trained.
        seed: of the weights and of the order of the data.
        lr: base learning rate.
        schedule: one of torch's, by its name in `TORCH_SCHEDULES`; or
        policy: that schedules the learning rate, and the data too if
        curriculum: in four buckets by the run's own losses.
        feedback: whether the policy is told validation losses.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = problem.make_model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        if policy is None:
            plain, scheduler = TORCH_SCHEDULES[schedule](optimizer, STEPS), None
        else:
            validate = (lambda: mean_loss(problem, model, problem.validation)) if feedback else None
            scheduler = RLScheduler(optimizer, STEPS, policy=policy, batch_size=BATCH, validate=validate)
        sampler = None
        if curriculum:
            buckets = OnlineBuckets(len(problem.train), count=4)
            sampler = CurriculumSampler(buckets, BATCH, scheduler=scheduler, seed=seed)
        batches = _batches(problem.train, seed, sampler)
        for _ in range(STEPS):
            x, y = next(batches)
            losses = problem.loss(model(x), y)
            losses.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if scheduler is None:
                plain.step()
            else:
                scheduler.step(losses if curriculum else losses.mean())
        return mean_loss(problem, model, problem.validation), mean_loss(problem, model, problem.test)


def _batches(data: TensorDataset, seed: int, sampler: CurriculumSampler | None) -> Iterator[list[Tensor]]:
    """Batches without end, drawn by `sampler`, or each example once an epoch."""
    drawn = sampler or BatchSampler(
        RandomSampler(data, generator=torch.Generator().manual_seed(seed)), BATCH, drop_last=True
    )
    while True:
        yield from DataLoader(data, batch_sampler=drawn)
