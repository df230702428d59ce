"""Small real runs under many schedules, learning rates and seeds at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsched.contract import Array, Decision, Window
from rlsched.controllers.schedules import OpenLoop
from rlsched.envs.drive import drive
from rlsched.envs.population import Population
from rlsched.envs.tasks import Digits, DigitsConfig, Task, Teacher, TeacherConfig
from rlsched.laws import LossCurve, lowest_point

Plan = tuple[OpenLoop, float]
"""A schedule and its base learning rate."""
Advance = Callable[[int], object]
"""Told how many steps of training were done."""
TUNING_SEEDS = tuple(range(1000, 1004))
"""Of runs that choose learning rates; none of them is reported."""
FACTORS = tuple(2.0**k for k in range(-5, 4))
"""Of each task's base learning rate, that are tried."""


@functools.cache
def tasks() -> dict[str, Task]:
    """Four tasks of 800 steps. A teacher has new data at every step and, of two, noisy labels, as language has."""
    common: dict[str, Any] = {
        "data_seed": 0, "num_steps": 800, "num_decisions": 40, "batch_size": 16, "num_validation": 1000,
        "curriculum": False,
    }  # fmt: skip
    digits = common | {"num_examples": 1000, "width": 32}
    teacher = common | {"num_examples": 12800, "pool_size": 21400, "width": 64}
    return {
        "digits, SGD": Digits().build(DigitsConfig(optimizer="sgd", base_lr=0.1, **digits)),
        "digits, 20 % wrong, Adam": Digits().build(
            DigitsConfig(optimizer="adam", base_lr=0.01, label_noise=0.2, **digits)
        ),
        "teacher, 20 % wrong, SGD": Teacher().build(
            TeacherConfig(optimizer="sgd", base_lr=0.1, label_noise=0.2, **teacher)
        ),
        "teacher, regression, Adam": Teacher().build(
            TeacherConfig(optimizer="adam", base_lr=0.01, regression=True, teacher_scale=2.0, **teacher)
        ),
    }


@dataclass(frozen=True, eq=False)
class Runs:
    """P plans, each run from S seeds on one task of T steps and W windows.

    Attributes:
        steps: (W,) steps done at the end of each window.
        lr: (P, T) learning rates.
        validation: (P, S, W) losses at the end of each window; inf once a run failed.
        grad_norm: (P, S, W) of each window.
    """

    steps: Array
    lr: Array
    validation: Array
    grad_norm: Array

    @property
    def final(self) -> Array:
        """(P, S) validation losses at the end."""
        return np.asarray(self.validation[:, :, -1])

    def curve(self, plan: int, skip: float = 0.1) -> LossCurve:
        """Mean validation loss over seeds without the first `skip` of the run."""
        late = self.steps > skip * self.steps[-1]
        return LossCurve(self.lr[plan], self.steps[late], self.validation[plan].mean(axis=0)[late])


def run(task: Task, plans: Sequence[Plan], seeds: Sequence[int], advance: Advance = lambda _: None) -> Runs:
    """Train all of them together."""
    rows = [(schedule, lr) for schedule, lr in plans for _ in seeds]
    at_lr = {lr: task.with_base_lr(lr) for _, lr in plans}
    population = Population([at_lr[lr] for _, lr in rows])
    population.reset([seed for _ in plans for seed in seeds])
    steps, losses, norms = list[int](), list[Array](), list[Array]()

    def watch(window: Window, decision: Decision, alive: Array) -> Window:
        loss = population.validation_loss()
        advance((int(window.step.max()) - (steps[-1] if steps else 0)) * len(rows))
        steps.append(int(window.step.max()))
        losses.append(np.where(alive & np.isfinite(loss), loss, np.inf))
        norms.append(window.grad_norm)
        return window

    drive(population, _Rows(tuple(schedule for schedule, _ in rows)), watch)
    progress, shape = np.arange(task.config.num_steps) / task.config.num_steps, (len(plans), len(seeds), -1)
    return Runs(
        np.array(steps),
        np.stack([lr * schedule.profile(progress) for schedule, lr in plans]),
        np.stack(losses, axis=1).reshape(shape),
        np.stack(norms, axis=1).reshape(shape),
    )


def cost(task: Task, plans: int, seeds: int) -> int:
    """Steps of training that `run` does."""
    return task.config.num_steps * plans * seeds


def tune(task: Task, schedule: OpenLoop, advance: Advance) -> float:
    """The base learning rate with the lowest mean ln(validation loss) over the tuning seeds."""
    rates = [factor * task.config.base_lr for factor in FACTORS]
    found = run(task, [(schedule, lr) for lr in rates], TUNING_SEEDS, advance)
    return lowest_point(rates, np.log(found.final).mean(axis=1))


def tuning_cost(task: Task) -> int:
    """Steps of training that `tune` does."""
    return cost(task, len(FACTORS), len(TUNING_SEEDS))


@dataclass(frozen=True)
class _Rows(OpenLoop):
    """A schedule for each row."""

    schedules: tuple[OpenLoop, ...]

    def profile(self, progress: Array) -> Array:
        return np.stack([each.profile(row) for each, row in zip(self.schedules, progress, strict=True)])
