"""What each method got on each task, and the methods that are the best of others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlsched.contract import Array
from rlsched.experiments.evaluation.comparators import SCHEDULES
from rlsched.experiments.evaluation.job import Run

BEST_DEFAULT = "best single default"
BEST_TUNED = "best of all tuned"
BEST_CURRICULUM = "best of all fixed curricula, tuned"


@dataclass(frozen=True, eq=False)
class Method:
    """What a method got on n tasks, from S seeds each. Losses are ln(loss / that before training).

    Attributes:
        name: of it.
        kind: see `Comparator.kind`; "best" of those made from others.
        members: the methods it is made of; itself, if it is a method of its own.
        runs: training runs it spent on a task for one result: those of its tuning, and that which is reported. Of
            a driver, the steps of all of them over those of a run.
        test: (n, S) test loss at the end; NaN on tasks it was not run on.
        reports: (task, seed) -> the run.
    """

    name: str
    kind: str
    runs: float
    members: tuple[str, ...]
    test: Array
    reports: Mapping[tuple[int, int], Run]


def methods(runs: Sequence[Run], kinds_of: Mapping[str, str], tasks: int) -> dict[str, Method]:
    """All methods in `runs`, and two that are the best of others, chosen for each task by losses of the tuning.

    `BEST_TUNED` is of the schedules, `BEST_CURRICULUM` of linear decay with and without fixed curricula.

    Args:
        runs: all of them.
        kinds_of: kind of each method, by name.
        tasks: how many there are.
    """
    by_method: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_method[run.method].append(run)
    found = {name: _method(name, kinds_of[name], mine, tasks) for name, mine in by_method.items()}
    tuned = {name: _tuning_losses(mine, tasks) for name, mine in by_method.items()}
    found[BEST_TUNED] = _best(BEST_TUNED, [found[name] for name in SCHEDULES], [tuned[name] for name in SCHEDULES])
    steered = [name for name in found if kinds_of.get(name) == "curriculum"]
    if steered:
        names = ["linear", *steered]
        found[BEST_CURRICULUM] = _best(BEST_CURRICULUM, [found[n] for n in names], [tuned[n] for n in names])
    return found


def log_ratios(method: Method, reference: Method) -> Array:
    """(n, S) ln(test loss / the reference's), paired by seed."""
    difference: Array = method.test - reference.test
    return difference


def _method(name: str, kind: str, runs: Sequence[Run], tasks: int) -> Method:
    reports = {(run.task, run.seed): run for run in runs if run.role == "report"}
    tuning = sum(run.role == "tuning" for run in runs) // len({run.task for run in runs})
    spent = float(np.mean([run.spent for run in reports.values()]))
    return Method(name, kind, tuning + spent, (name,), _test_losses(reports, tasks), reports)


def _test_losses(reports: Mapping[tuple[int, int], Run], tasks: int) -> Array:
    seeds = 1 + max(seed for _, seed in reports)
    test = np.full((tasks, seeds), np.nan)
    for (task, seed), run in reports.items():
        test[task, seed] = run.test
    return test


def _tuning_losses(runs: Sequence[Run], tasks: int) -> Array:
    """(n,) lowest validation loss of the tuning; inf without one."""
    losses = np.full(tasks, np.inf)
    for run in runs:
        if run.role == "tuning":
            losses[run.task] = min(losses[run.task], run.validation)
    return losses


def _best(name: str, members: Sequence[Method], tuned: Sequence[Array]) -> Method:
    """Of each task's methods, the one that was tuned to the lowest loss, as it was reported."""
    chosen = np.argmin(tuned, axis=0)
    reports = {
        key: run
        for at, member in enumerate(members)
        for key, run in member.reports.items()
        if chosen[key[0]] == at
    }
    runs = sum(member.runs - 1 for member in members) + 1
    names = tuple(member.name for member in members)
    return Method(name, "best", runs, names, _test_losses(reports, len(chosen)), reports)


def best_default(runs: Sequence[Run]) -> tuple[str, float]:
    """The schedule and factor whose runs, of all tunings in `runs`, have the lowest mean validation loss."""
    losses: dict[tuple[str, float], list[float]] = defaultdict(list)
    for run in runs:
        if run.role == "tuning" and run.method in SCHEDULES:
            losses[run.method, run.factor].append(run.validation)
    return min(losses, key=lambda choice: float(np.mean(losses[choice])))
