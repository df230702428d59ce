"""What curricula could teach a policy: `python -m rlsched.experiments.curriculum_targets --out DIR`.

The teacher of the warm start runs fixed curricula on every task, and lets the policy imitate those that end best.
Curricula of the field follow the run instead. Are they better targets? On each task one is chosen by the
validation loss of one run, as the teacher does, and judged by that of a run from another seed, on the same few
validation examples: this is what makes a target, not what a user would gain.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from rlsched import _check
from rlsched._check import ArgumentError
from rlsched._files import write_atomically
from rlsched.action import ActionSpec
from rlsched.agents.evaluation import evaluation_seeds
from rlsched.agents.imitation.search import DECISIONS, SearchUnit, draw_group
from rlsched.agents.open_loop import Plan, run_plans
from rlsched.agents.rollouts import Setting, Weights
from rlsched.agents.run_folder import made_with
from rlsched.contract import Array
from rlsched.controllers import Linear
from rlsched.controllers.curriculum.fixed import curricula
from rlsched.envs.drive import drive
from rlsched.envs.tasks import FAMILIES, Task
from rlsched.experiments.backend import choose_backend
from rlsched.experiments.evaluation.statistics import interquartile_mean, mean_over_tasks
from rlsched.experiments.methods import find
from rlsched.experiments.tables import markdown
from rlsched.policy import PolicyInterface

FIELD = "cures,pcl,balanced-filtering,dump,sec,cyclical-curriculum"
"""Those that helped with wrong labels in `experiments.claims` and need no probe of their own."""
MOST = 2.0
"""Nats by which a curriculum can differ from the natural mixture, at most."""
SHOWN = {"wrong labels": True, "right labels": False}


@dataclass(frozen=True, eq=False)
class Contest:
    """What every curriculum came to on n tasks.

    Attributes:
        noisy: (n,) whether labels are wrong.
        losses: (2, n, C) ln(final validation loss) from two seeds less that of the natural mixture, which is the
            first of C; then come the other fixed curricula, then those of the field. Within `MOST`.
    """

    noisy: Array
    losses: Array


@dataclass(frozen=True)
class ContestUnit:
    """All curricula on some tasks that can be computed together, at the tuned learning rate of linear decay.

    Attributes:
        seed: of the tasks and their runs.
        tasks: how many.
    """

    seed: int
    tasks: int

    def run(self, setting: Setting, weights: Weights) -> Contest:
        """What was found on the tasks that have a curriculum; `weights` play no part."""
        tuned = SearchUnit(self.seed, self.tasks, buckets=False).run(setting, weights)
        configs, seeds = draw_group(setting.tasks, self.seed, self.tasks)
        rows = [row for row, config in enumerate(configs) if config.curriculum]
        count = len(curricula(setting.tasks.num_buckets)) + len(find(FIELD))
        if not rows:
            return Contest(np.zeros(0, dtype=bool), np.zeros((2, 0, count)))
        tasks = [
            setting.tasks.build(configs[row]).with_decisions(DECISIONS).with_base_lr(10.0 ** tuned.log_lr[row])
            for row in rows
        ]
        # Not the seeds that tuned the learning rate of the natural mixture.
        both = np.stack([_losses(setting, tasks, [seeds[row] + more for row in rows]) for more in (1, 2)])
        noisy = np.array([getattr(configs[row], "label_noise", 0.0) > 0 for row in rows])
        return Contest(noisy, np.clip(both - both[:, :, :1], -MOST, MOST))


def _losses(setting: Setting, tasks: Sequence[Task], seeds: Sequence[int]) -> Array:
    """(n, C) ln of the final validation losses, in a range whose logarithms are finite."""
    choices = curricula(setting.tasks.num_buckets)
    plans = [[Plan(Linear(), task.config.base_lr, choice) for choice in choices] for task in tasks]
    found = [run_plans(setting, tasks, seeds, plans)[1]]
    for entry in find(FIELD):
        population = setting.population(list(tasks))
        population.reset(list(seeds))
        found.append(drive(population, entry.create())[:, None])
    return np.log(np.clip(np.concatenate(found, axis=1), 1e-12, 1e12))


def gain(contest: Contest, rows: slice) -> Array:
    """(n, 2) losses of the best of the natural mixture and `rows`; either seed chooses once and judges once."""
    open_to = np.concatenate([contest.losses[:, :, :1], contest.losses[:, :, rows]], axis=2)
    judged = [
        np.take_along_axis(judge, choose.argmin(axis=1)[:, None], axis=1)[:, 0]
        for choose, judge in (open_to, open_to[::-1])
    ]
    return np.stack(judged, axis=1)


def table(contests: Sequence[Contest], fixed: int) -> str:
    """Markdown: what choosing among each set of curricula brings, the first `fixed` of which are fixed."""
    whole = Contest(
        np.concatenate([contest.noisy for contest in contests]),
        np.concatenate([contest.losses for contest in contests], axis=1),
    )
    groups = np.repeat(np.arange(len(contests)), [len(contest.noisy) for contest in contests])
    sets = {
        f"{fixed} fixed curricula": slice(1, fixed),
        f"natural mixture and {whole.losses.shape[2] - fixed} of the field": slice(fixed, None),
        "all of them": slice(1, None),
    }
    lines = []
    for name, rows in sets.items():
        found = gain(whole, rows)
        kinds = {kind: whole.noisy == which for kind, which in SHOWN.items()}
        lines.append({"chosen among": name} | {kind: _cell(found[of], groups[of]) for kind, of in kinds.items()})
    return markdown(lines)


def _cell(values: Array, groups: Array) -> str:
    """Mean with its 95 % interval, tasks of a group being alike, and in brackets that of the middle half."""
    if not len(values):
        return ""
    strata = np.zeros(len(values), dtype=int)
    mean, middle = mean_over_tasks(values, strata, groups), interquartile_mean(values, strata, groups)
    return f"{mean.value:+.3f} ({middle.value:+.3f}), {mean.low:+.3f} to {mean.high:+.3f}"


def main(out: Path, family: str = "practice", groups: int = 80, group_tasks: int = 8, workers: int = 0) -> int:
    """Run the contest: half an hour and more on two cores; sequence models take most of it.

    Args:
        out: folder of targets.json and targets.md.
        family: of tasks, see `rlsched tasks`.
        groups: of tasks that are computed together.
        group_tasks: tasks in each.
        workers: processes, by Ray; 0 for this one alone.
    """
    _check.choice("family", family, FAMILIES)
    _check.integer("groups", groups, 1)
    _check.integer("group_tasks", group_tasks, 1)
    tasks = FAMILIES[family]()
    rng = np.random.default_rng(0)
    if not any(tasks.sample(rng).curriculum for _ in range(100)) or tasks.num_buckets < 2:
        raise ArgumentError(
            f"family must have tasks with a curriculum, {family} has none: `rlsched tasks` lists others."
        )
    setting = Setting(tasks, PolicyInterface(ActionSpec()), "eager")
    units = [ContestUnit(seed, group_tasks) for seed in evaluation_seeds(0, groups, purpose=2)]
    with (
        choose_backend(workers, None)(setting) as backend,
        tqdm(total=groups, desc="contests", unit="group", dynamic_ncols=True) as bar,
    ):
        contests = backend.run(units, done=lambda *_: bar.update())
    found = table(contests, len(curricula(setting.tasks.num_buckets)))
    names = [choice.name for choice in curricula(tasks.num_buckets)] + [entry.name for entry in find(FIELD)]
    plain = [{name: value.tolist() for name, value in vars(contest).items()} for contest in contests]
    content = {"made_with": made_with(), "family": family, "curricula": names, "contests": plain}
    write_atomically(out / "targets.json", json.dumps(content).encode())
    write_atomically(out / "targets.md", f"{found}\n".encode())
    count = sum(len(contest.noisy) for contest in contests)
    print(f"ln(validation loss / natural mixture's) on {count} tasks, below 0 is better\n\n{found}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main, prog="python -m rlsched.experiments.curriculum_targets"))
    except (OSError, ArgumentError) as error:
        sys.exit(f"curriculum_targets: {error}")
