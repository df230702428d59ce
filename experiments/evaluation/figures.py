"""From runs to figures: every method against the best of all tuned schedules, on every kind of task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsched.agents.evaluation import FLAWLESS, kinds
from rlsched.contract import Array
from rlsched.envs.tasks import DataConfig, TaskConfig
from rlsched.experiments.evaluation.comparators import FACTORS
from rlsched.experiments.evaluation.job import Run
from rlsched.experiments.evaluation.methods import BEST_TUNED, Method, log_ratios
from rlsched.experiments.evaluation.statistics import Estimate, interquartile_mean, mean_over_tasks

TIE = 0.01
"""Nats of test loss within which two results are a tie."""
LEARNED = 0.05
"""Nats by which tuned linear decay must lower the validation loss for the way there to be compared."""


@dataclass(frozen=True)
class Row:
    """A method's figures on the tasks of one kind.

    Attributes:
        method: name of it.
        kind: of the method.
        tasks: kind of task.
        count: tasks.
        log_ratio: mean of ln(test loss / that of the best of all tuned); below zero the method is better.
        interquartile: the same over the middle half of the tasks.
        win: share of tasks on which it is better by more than 1 %.
        tie: share within 1 %.
        speed_up: median over tasks of how many times fewer steps it took to the final validation loss of tuned
            linear decay; 0 where it did not get there. Only tasks on which that loss is `LEARNED` below the first
            one count; None if there are none.
        reached: share of runs that got there.
        area: mean over the run of ln(validation loss), minus that of tuned linear decay.
        at_edge: share of tasks that it was tuned to the lowest or the highest learning rate of those tried for.
        runs: training runs spent on a task; a driver's searches and branches count by their steps.
        steps: training steps spent on a task, in the mean.
        seconds: of computing spent on a task, in the mean.
        worst: largest log ratio of a task.
    """

    method: str
    kind: str
    tasks: str
    count: int
    log_ratio: Estimate
    interquartile: Estimate
    win: float
    tie: float
    speed_up: float | None
    reached: float | None
    area: float
    at_edge: float | None
    runs: float
    steps: float
    seconds: float
    worst: float

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Row:
        """The row that `dataclasses.asdict` made `plain` of."""
        values: dict[str, Any] = {
            name: Estimate(**value) if isinstance(value, dict) else value for name, value in plain.items()
        }
        return cls(**values)


def rows(
    found: Mapping[str, Method],
    runs: Sequence[Run],
    configs: Sequence[TaskConfig],
    families: Sequence[str],
    groups: Sequence[int],
) -> list[Row]:
    """The figures of every method on every kind of task, by its name in `subsets`.

    Args:
        found: from `methods`.
        runs: all of them.
        configs: (n,) of the tasks.
        families: (n,) what each is of.
        groups: (n,) number of the group that each was drawn in.
    """
    spent = _spent(runs, len(configs))
    reference, linear = found[BEST_TUNED], found["linear"]
    strata = np.stack([np.unique(each, return_inverse=True)[1] for each in (list(families), list(groups))])
    table = []
    for subset, chosen in subsets(configs, families).items():
        for method in found.values():
            which = chosen[np.isfinite(method.test[chosen]).all(axis=1)]
            if which.size:
                table.append(_row(method, subset, which, reference, linear, strata, spent))
    return table


def subsets(configs: Sequence[TaskConfig], families: Sequence[str]) -> dict[str, Array]:
    """Kind of task -> numbers of such tasks."""
    predicates: dict[str, Callable[[TaskConfig], bool]] = {
        "all": lambda config: True,
        "noisy or mixed": _noisy_or_mixed,
        "clean": lambda config: not _noisy_or_mixed(config),
    }
    predicates |= {
        name: which for name, which in kinds(configs).items() if which is FLAWLESS or name[-8:] == "reported"
    }
    numbers = {name: [i for i, c in enumerate(configs) if which(c)] for name, which in predicates.items()}
    if len(set(families)) > 1:
        for family in dict.fromkeys(families):
            numbers[family] = [i for i, each in enumerate(families) if each == family]
    return {name: np.array(found) for name, found in numbers.items() if found}


def speed_ups(method: Method, linear: Method, which: Array) -> Array:
    """(m, S) steps of tuned linear decay over those to its final validation loss; 0 where it was not reached.

    NaN where that loss is not below the first one by `LEARNED`: to get there means nothing.
    """
    return np.array(
        [[_speed_up(method.reports[key], linear.reports[key]) for key in _keys(method, task)] for task in which]
    )


def _noisy_or_mixed(config: TaskConfig) -> bool:
    return isinstance(config, DataConfig) and (config.label_noise > 0 or config.domain_skew > 0)


def _spent(runs: Sequence[Run], tasks: int) -> dict[str, tuple[Array, Array]]:
    """Method -> (n,) steps and (n,) seconds on each task for one report."""
    spent: dict[str, tuple[Array, Array]] = defaultdict(lambda: (np.zeros(tasks), np.zeros(tasks)))
    for run in runs:
        if run.role == "tuning" or run.seed == 0:
            steps, seconds = spent[run.method]
            steps[run.task] += run.num_steps * run.spent
            seconds[run.task] += run.seconds
    return spent


def _row(
    method: Method,
    subset: str,
    which: Array,
    reference: Method,
    linear: Method,
    strata: Array,
    spent: Mapping[str, tuple[Array, Array]],
) -> Row:
    ratios = log_ratios(method, reference)[which]
    by_task = ratios.mean(axis=1)
    gains = speed_ups(method, linear, which)
    learned = np.isfinite(gains).all(axis=1)
    gains = gains[learned]
    areas = [
        _area(method.reports[key]) - _area(linear.reports[key]) for task in which for key in _keys(method, task)
    ]
    steps, seconds = _cost(method, spent)
    return Row(
        method=method.name,
        kind=method.kind,
        tasks=subset,
        count=len(which),
        log_ratio=mean_over_tasks(ratios, *strata[:, which]),
        interquartile=interquartile_mean(ratios, *strata[:, which]),
        win=float((by_task < -TIE).mean()),
        tie=float((abs(by_task) <= TIE).mean()),
        speed_up=float(np.median(gains.mean(axis=1))) if gains.size else None,
        reached=float((gains > 0).mean()) if gains.size else None,
        area=float(np.mean(areas)),
        at_edge=_at_edge(method, which),
        runs=method.runs,
        steps=float(steps[which].mean()),
        seconds=float(seconds[which].mean()),
        worst=float(by_task.max()),
    )


def _cost(method: Method, spent: Mapping[str, tuple[Array, Array]]) -> tuple[Array, Array]:
    """(n,) steps and (n,) seconds spent on each task; of a best of others, on the tuning of all, and a run."""
    steps, seconds = (np.sum([spent[name][at] for name in method.members], axis=0) for at in range(2))
    # A report of each is in there, and only one counts.
    kept = method.runs / (method.runs + len(method.members) - 1)
    return steps * kept, seconds * kept


def _at_edge(method: Method, which: Array) -> float | None:
    if method.runs == 1:
        return None
    chosen = [method.reports[key].factor for task in which for key in _keys(method, task)]
    return float(np.isin(chosen, [FACTORS[0], FACTORS[-1]]).mean())


def _keys(method: Method, task: int) -> list[tuple[int, int]]:
    return [key for key in ((int(task), seed) for seed in range(method.test.shape[1])) if key in method.reports]


def _speed_up(run: Run, linear: Run) -> float:
    if linear.validation > -LEARNED:
        return np.nan
    there = np.flatnonzero(np.array(run.curve) <= linear.validation)
    return linear.num_steps / run.steps[there[0]] if there.size else 0.0


def _area(run: Run) -> float:
    """Mean over the run of ln(validation loss / that before training), by trapezoids.

    What failed stays at its last value, which is the highest there is.
    """
    steps = np.array([0, *run.steps, run.num_steps])
    values = np.array([0.0, *run.curve, run.curve[-1]])
    return float((np.diff(steps) * (values[1:] + values[:-1]) / 2.0).sum() / run.num_steps)
