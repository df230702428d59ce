"""`rlsched importance`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from rlsched import _check
from rlsched._files import write_atomically
from rlsched.agents import TaskSettings
from rlsched.agents.evaluation import EvaluationUnit, evaluation_seeds, join_outcomes, kinds
from rlsched.agents.rollouts import Setting
from rlsched.contract import Array
from rlsched.envs.tasks import Natural, TaskConfig
from rlsched.experiments.backend import choose_backend
from rlsched.experiments.evaluation.statistics import Estimate, mean_over_tasks
from rlsched.experiments.task_family import task_family
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES
from rlsched.policy import Policy

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "time": ("progress", "decisions_left", "interval"),
        "own past": ("log_scale", "last_move"),
        "level of the loss": ("loss_vs_first", "loss_vs_best"),
        "trend of the loss": ("loss_change", "loss_change_fast", "loss_change_slow", "loss_slope"),
        "noise of the loss": ("loss_noise",),
        "gradient norm": ("grad_vs_first", "grad_change", "grad_spread"),
        "length of updates": ("matrix_update",),
        "agreement of gradients": ("grad_agreement", "grad_agreement_slow"),
        "batch size": ("batch_size",),
        "epochs": ("epochs",),
        "kind of optimizer": ("adaptive",),
        "validation losses": ("feedback", "validation_change", "validation_vs_best", "gap"),
        "buckets: losses": ("bucket relative_loss", "bucket loss_change", "bucket loss_vs_first"),
        "buckets: share, rank": ("bucket share", "bucket difficulty"),
        "buckets: own past": ("bucket weight",),
    }
)
"""Observations that tell the same kind of thing; "bucket" before a name means a feature of each bucket. Whether
there is a curriculum at all is in none of them."""
SUBSETS = ("all", "noisy labels", "clean labels", "validation losses reported", "none reported")


@dataclass(frozen=True)
class Importance:
    """How much worse a policy is without some observations.

    Attributes:
        without: name of the group.
        tasks: kind of task.
        worse_by: mean difference of scores, in nats of validation loss.
    """

    without: str
    tasks: str
    worse_by: Estimate


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
    """Say how much worse a policy does if it is not shown some of its observations.

    What it is not shown is at its mean of training throughout. The policy is not trained again, so this says what
    it relies on, not what could be learned without. It acts without the guard.

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
    _check.integer("groups", groups, 1)
    _check.integer("group_tasks", group_tasks, 1)
    loaded = Policy.load(policy)
    setting = Setting(
        task_family(tasks) if tasks.curriculum else Natural(task_family(tasks)),
        loaded.interface,
        tasks.unstackable,
    )
    units = [EvaluationUnit(each, group_tasks) for each in evaluation_seeds(seed, groups, purpose=1)]
    with (
        choose_backend(workers, ray_address)(setting) as backend,
        tqdm(total=(1 + len(GROUPS)) * groups, desc="evaluating", unit="group", dynamic_ncols=True) as bar,
    ):

        def scores(shown: Policy) -> tuple[Array, list[TaskConfig]]:
            found = join_outcomes(backend.run(units, dict(shown.tensors), lambda *_: bar.update()))
            return found.scores, list(found.configs)

        whole, configs = scores(loaded)
        numbers = np.repeat(np.arange(groups), group_tasks)
        found = []
        for name, features in GROUPS.items():
            worse = scores(without(loaded, features))[0] - whole
            found += _by_kind(name, worse, configs, numbers)
    Console(width=120).print(table(found))
    if json_file is not None:
        write_atomically(json_file, json.dumps([asdict(row) for row in found], indent=2).encode())


def without(policy: Policy, features: tuple[str, ...]) -> Policy:
    """`policy` as if each of `features` were always at its mean of training."""
    tensors = dict(policy.tensors)
    names = {
        "run": [feature.name for feature in RUN_FEATURES],
        "bucket": [f"bucket {feature.name}" for feature in BUCKET_FEATURES],
    }
    for part, order in names.items():
        chosen = [order.index(name) for name in features if name in order]
        # Observations are clipped to the range of training, which is a point now.
        for bound in ("low", "high"):
            values = tensors[f"normalizer.{part}_{bound}"].copy()
            values[chosen] = tensors[f"normalizer.{part}_mean"][chosen]
            tensors[f"normalizer.{part}_{bound}"] = values
    return Policy(tensors, policy.metadata)


def table(found: list[Importance]) -> Table:
    """For people: a row for each group, the one that matters most first."""
    subsets = [name for name in SUBSETS if any(row.tasks == name for row in found)]
    shown = Table(
        "without",
        *subsets,
        title="By how many nats of validation loss the score is worse, ± half the 95 % interval",
    )
    rows = {(row.without, row.tasks): row.worse_by for row in found}
    for name in sorted(GROUPS, key=lambda name: -rows[name, "all"].value):
        cells = [rows[name, subset] for subset in subsets]
        shown.add_row(name, *(f"{cell.value:+.3f} ± {(cell.high - cell.low) / 2:.3f}" for cell in cells))
    return shown


def _by_kind(name: str, worse: Array, configs: list[TaskConfig], numbers: Array) -> list[Importance]:
    of = kinds(configs)
    families = np.array([type(config).__name__ for config in configs])
    rows = []
    for subset in SUBSETS:
        if subset in of:
            which = np.array([of[subset](config) for config in configs])
            rows.append(
                Importance(name, subset, mean_over_tasks(worse[which][:, None], families[which], numbers[which]))
            )
    return rows
