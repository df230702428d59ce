"""Curricula that follow the run, as targets to imitate: what they did in a run, step of progress by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

import rlsched.controllers.curriculum as module
from rlsched import _check
from rlsched.agents.rollouts.job import Setting
from rlsched.contract import RUN_TELEMETRY, Array, Decision, RunSpec, Window
from rlsched.controllers import Linear
from rlsched.controllers.curriculum.fixed import NEVER
from rlsched.controllers.curriculum.weighing import Weighing
from rlsched.envs.drive import drive
from rlsched.envs.tasks import Task

POINTS = 20
"""Points of progress, from 0 to `1 - 1 / POINTS`, at which bucket weights are noted."""


def available() -> list[str]:
    """Classes of `rlsched.controllers.curriculum` that need nothing beside a controller of the learning rate."""
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Weighing)]
    return sorted(each.__name__ for each in classes if _stands_alone(each))


def parse(text: str) -> tuple[str, ...]:
    """The names in a list separated by commas; ArgumentError if one is not `available`, or there twice."""
    if not isinstance(text, str):
        raise TypeError(f"followed must be a string, got {type(text).__name__}: names separated by commas.")
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        _check.choice("followed", name, available(), "give such names, separated by commas, or none.")
    if len(set(names)) < len(names):
        raise _check.ArgumentError(f"followed must name each curriculum once, got {text!r}.")
    return names


def follow(setting: Setting, tasks: Sequence[Task], seeds: Sequence[int], name: str) -> tuple[Array, Array]:
    """Run each of n tasks from its seed under linear decay and the curriculum called `name`.

    Returns:
        (n,) validation losses at the end, inf where a run diverged or the curriculum does not fit its buckets, and
        (n, POINTS, K) the bucket logits in force at each point of progress: ln(weight / share) within `NEVER`, of
        mean zero.
    """
    curriculum: Weighing = getattr(module, name)(controller=Linear())
    buckets = setting.tasks.num_buckets
    final, logits = np.full(len(tasks), np.inf), np.zeros((len(tasks), POINTS, buckets))
    fitting = [row for row, task in enumerate(tasks) if _fits(curriculum, task)]
    if fitting:
        rows = [tasks[row] for row in fitting], [seeds[row] for row in fitting]
        final[fitting], logits[fitting] = _drive(setting, *rows, curriculum)
    return final, logits


def _drive(
    setting: Setting, tasks: Sequence[Task], seeds: Sequence[int], curriculum: Weighing
) -> tuple[Array, Array]:
    population = setting.population(list(tasks))
    population.reset(list(seeds))
    spec = population.spec
    points = np.arange(POINTS) / POINTS
    logits = np.zeros((len(tasks), POINTS, spec.num_buckets))
    begun = np.zeros(len(tasks))

    def note(window: Window, decision: Decision, alive: Array) -> Window:
        nonlocal begun
        likely = np.maximum(decision.bucket_weights, 1e-12) / spec.bucket_shares
        chosen = np.clip(np.log(likely), -NEVER, NEVER)
        chosen -= chosen.mean(axis=1, keepdims=True)
        # The next window overwrites what is beyond the end of this one.
        acts = (points >= begun[:, None]) & (window.progress > begun)[:, None]
        logits[acts] = np.broadcast_to(chosen[:, None], logits.shape)[acts]
        begun = window.progress
        return window

    return drive(population, curriculum, note), logits


def _fits(curriculum: Weighing, task: Task) -> bool:
    """Whether it can weigh the buckets of `task`: some go by an order of difficulty."""
    shares, difficulty = task.buckets.shares, task.buckets.difficulty
    spec = RunSpec.single(2, 1, 1.0, adaptive=True, bucket_shares=shares, bucket_difficulty=difficulty)
    try:
        curriculum.init(spec)
    except ValueError:
        return False
    return True


def _stands_alone(curriculum: type[Weighing]) -> bool:
    if not dataclasses.is_dataclass(curriculum):
        return False
    needed = [
        field.name
        for field in dataclasses.fields(curriculum)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if set(needed) - {"controller"}:
        return False
    try:
        return bool(curriculum(controller=Linear()).reads <= RUN_TELEMETRY)
    except (TypeError, ValueError):
        return False
