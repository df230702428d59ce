"""`rlsched score`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from rlsched import _check
from rlsched._files import write_atomically
from rlsched.agents import TaskSettings
from rlsched.agents.evaluation import Comparison, Difference, EvaluationUnit, evaluation_seeds, kinds
from rlsched.agents.rollouts import Backend, Setting
from rlsched.envs.tasks import Natural
from rlsched.experiments.backend import choose_backend
from rlsched.experiments.task_family import task_family
from rlsched.policy import Policy


def main(
    policy: Annotated[Path, tyro.conf.Positional],
    tasks: TaskSettings,
    groups: int = 32,
    group_tasks: int = 4,
    seed: int = 1,
    workers: int = 0,
    ray_address: str | None = None,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Score a policy on tasks that neither trained nor selected it, beside the baselines.

    Args:
        policy: the file.
        tasks: where the tasks come from.
        groups: of tasks that are computed together.
        group_tasks: tasks in each.
        seed: of the tasks.
        workers: processes that train tasks, by Ray; 0 for this process alone.
        ray_address: of the cluster, see `rlsched train --help`.
        json_file: file to write the figures to.
    """
    _check.integer("groups", groups, 2)
    _check.integer("group_tasks", group_tasks, 1)
    loaded = Policy.load(policy)
    family = task_family(tasks) if tasks.curriculum else Natural(task_family(tasks))
    setting = Setting(family, loaded.interface, tasks.unstackable)
    with choose_backend(workers, ray_address)(setting) as backend:
        found = compare(backend, loaded, seed, groups, group_tasks)
    rows = differences(found)
    Console().print(table(found, rows))
    if json_file is not None:
        plain = [{"against": a, "kind": kind, **dataclasses.asdict(row)} for (a, kind), row in rows.items()]
        write_atomically(json_file, json.dumps(plain, indent=2).encode())


def compare(backend: Backend, policy: Policy, seed: int, groups: int, group_tasks: int) -> Comparison:
    """`policy` beside the baselines, on tasks that are kept for reports."""
    units = [EvaluationUnit(each, group_tasks) for each in evaluation_seeds(seed, groups, purpose=1)]
    with tqdm(total=2 * groups, desc="scoring", unit="group", dynamic_ncols=True) as bar:
        return Comparison.measure(backend, dict(policy.tensors), units, done=lambda *_: bar.update())


def differences(found: Comparison) -> dict[tuple[str, str], Difference]:
    """(baseline, kind of task) -> how far the policy is ahead of it."""
    against = {"best single default": found.baselines.default, "tuned linear decay": found.baselines.tuned_linear}
    rows = {}
    for name, scores in against.items():
        for kind, which in kinds(found.outcome.configs).items():
            difference = found.over(scores, which)
            if difference is not None:
                rows[name, kind] = difference
    return rows


def table(found: Comparison, rows: dict[tuple[str, str], Difference]) -> Table:
    """The figures for people."""
    schedule, factor = found.baselines.best_default
    shown = Table(
        "against", "tasks", "n", "difference", "95 % interval", "worse by > 0.05", "worst",
        title="Difference in ln(final validation loss), one untuned run of the policy; below 0 it is better",
        caption=f"Mean scores: policy {found.outcome.scores.mean():.3f}; best single default "
        f"({schedule}, {factor:.3g} times the family's learning rate) {found.baselines.default.mean():.3f}; "
        f"linear decay tuned per task (7 runs and one) {found.baselines.tuned_linear.mean():.3f}",
    )  # fmt: skip
    before = ""
    for (against, kind), row in rows.items():
        better = "green" if row.high < 0 else "red" if row.low > 0 else "default"
        shown.add_row(
            against if against != before else "", kind, str(row.tasks), f"[{better}]{row.mean:+.3f}[/]",
            f"{row.low:+.3f} to {row.high:+.3f}", f"{row.worse:.0%}", f"{row.worst:+.2f}",
        )  # fmt: skip
        before = against
    return shown
