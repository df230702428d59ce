"""Schedules refined from gradient norms, against their parents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlsched.contract import Array
from rlsched.controllers.schedules import Linear
from rlsched.controllers.schedules.tabulated import Tabulated
from rlsched.envs.tasks import Task
from rlsched.experiments.laws.interval import paired, shown, verdict
from rlsched.experiments.laws.runs import TUNING_SEEDS, Advance, cost, run, tasks, tune, tuning_cost
from rlsched.laws import Refinement


def steps(seeds: int) -> int:
    """Of training, in all."""
    return sum(cost(task, 1, 1) + tuning_cost(task) + cost(task, 3, seeds) for task in tasks().values())


def rows(peaks: Mapping[str, float], seeds: int, advance: Advance) -> list[dict[str, Any]]:
    """The refinement of linear decay against it, at the parent's peak learning rate and at one of its own.

    Args:
        peaks: learning rate of each task, tuned for linear decay.
        seeds: of the runs that are compared, pair by pair.
        advance: told of progress.
    """
    return [_row(name, task, peaks[name], seeds, advance) for name, task in tasks().items()]


def _row(name: str, task: Task, peak: float, seeds: int, advance: Advance) -> dict[str, Any]:
    parent = run(task, [(Linear(), peak)], TUNING_SEEDS[:1], advance)
    norms = parent.grad_norm[0, 0]
    refinement = Refinement(1.0 if "adam" in task.config.optimizer else 2.0)
    refined = refinement.schedule(norms, parent.steps, task.config.num_steps)
    own = tune(task, refined, advance)
    found = run(task, [(Linear(), peak), (refined, peak), (refined, own)], range(seeds), advance).final
    gain = paired(found[2], found[0])
    return {
        "task": name,
        "gradient norm by quarters": _course(norms),
        "highest at": f"{np.argmax(refined.values) / len(refined.values):.0%} of the run",
        "refined at 0, 25, 50, 75 %": _course_of(refined),
        "parent's loss": f"{found[0].mean():.4f}",
        "at its peak": shown(paired(found[1], found[0])),
        "peak tuned again": shown(gain),
        "beats its parent": verdict(gain),
    }


def _course(norms: Array) -> str:
    quarters = [float(part.mean()) for part in np.array_split(norms, 4)]
    return " ".join(f"{value:.2g}" for value in quarters)


def _course_of(refined: Tabulated) -> str:
    return " ".join(f"{value:.2f}" for value in refined.profile(np.array([0.0, 0.25, 0.5, 0.75])))
