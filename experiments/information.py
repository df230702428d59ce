"""What telemetry tells of the learning rate: `python -m rlsched.experiments.information --out DIR`.

Every task is trained by linear decay at nine learning rates, and extremely randomised trees (Geurts et al. 2006,
Machine Learning 63) predict from what a policy would have seen at some point of a run how far its learning rate
is from the best of the nine, on tasks that they were not fitted to. `rlsched importance` says what a policy uses;
this says what there is to use, and so which observation is worth having.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

from rlsched import _check, observation
from rlsched._check import ArgumentError
from rlsched._files import write_atomically
from rlsched.agents.evaluation import evaluation_seeds
from rlsched.agents.imitation.search import GRID, best_step, draw_group
from rlsched.agents.rollouts import Setting, Weights
from rlsched.agents.run_folder import made_with
from rlsched.contract import Array, Decision, Window
from rlsched.controllers import Linear
from rlsched.envs.drive import drive
from rlsched.envs.tasks import FAMILIES
from rlsched.experiments.backend import choose_backend
from rlsched.experiments.evaluation.statistics import mean_over_tasks
from rlsched.experiments.importance import GROUPS
from rlsched.experiments.tables import markdown
from rlsched.policy import PolicyInterface

SHARES = (0.05, 0.2, 0.5)
"""Of a run, after which is asked."""
FARTHEST = 2.0
"""Decades beyond which one learning rate is as far off as another."""
CONSTANT = {"own past", "validation losses", "buckets: losses", "buckets: share, rank", "buckets: own past"}
"""Groups of observations that say nothing here: nothing is moved, nor reported, nor drawn by bucket."""
FOLDS = 6


@dataclass(frozen=True, eq=False)
class Sightings:
    """What was seen in runs of n tasks at G learning rates.

    Attributes:
        seen: (S, n, G, F) features of the run after each of `SHARES`; NaN where it had diverged.
        off: (n, G) decades from the run's learning rate to the best one, within `FARTHEST`.
    """

    seen: Array
    off: Array


@dataclass(frozen=True)
class SightingUnit:
    """Linear decay at every learning rate of `GRID` on some tasks that can be computed together.

    Attributes:
        seed: of the tasks and their runs.
        tasks: how many.
    """

    seed: int
    tasks: int

    def run(self, setting: Setting, weights: Weights) -> Sightings:
        """What was seen; `weights` play no part."""
        configs, seeds = draw_group(setting.tasks, self.seed, self.tasks)
        tasks = [
            setting.tasks.build(config).with_base_lr(setting.tasks.sensible_lr(config) * 10.0**step)
            for config in configs
            for step in GRID
        ]
        population = setting.population(tasks)
        population.reset(np.repeat(seeds, len(GRID)).tolist())
        spec, zero = population.spec, np.zeros(len(tasks))
        memory = observation.init(spec)
        seen = np.full((len(SHARES), len(tasks), len(observation.RUN_NAMES)), np.nan)

        def look(window: Window, decision: Decision, alive: Array) -> Window:
            nonlocal memory
            memory, features = observation.observe(memory, window, zero, zero, spec.bucket_shares)
            for known, share in zip(seen, SHARES, strict=True):
                due = alive & (window.progress >= share) & np.isnan(known[:, 0])
                known[due] = features[due, : known.shape[1]]
            return window

        losses = np.log(np.clip(drive(population, Linear(), look), 1e-12, 1e12)).reshape(self.tasks, len(GRID))
        best = np.array([best_step(row) for row in losses])
        off = np.clip(best[:, None] - np.array(GRID), -FARTHEST, FARTHEST)
        return Sightings(seen.reshape(len(SHARES), self.tasks, len(GRID), -1), off)


def errors(sightings: Sequence[Sightings], share: int, names: Sequence[str]) -> Array:
    """(n,) mean absolute error in decades on each task, after `SHARES[share]`, by the features called `names`.

    Trees are fitted to the tasks of other groups. NaN for a task whose runs had all diverged by then.
    """
    columns = [observation.RUN_NAMES.index(name) for name in names]
    seen = np.concatenate([each.seen[share] for each in sightings])
    off = np.concatenate([each.off for each in sightings])
    groups = np.repeat(np.arange(len(sightings)), [len(each.off) for each in sightings])
    task, rate = np.nonzero(np.isfinite(seen[:, :, 0]))
    x, y = seen[task, rate][:, columns], off[task, rate]
    found = np.full(off.shape, np.nan)
    folds = GroupKFold(min(FOLDS, len(sightings)))
    for fit, judge in folds.split(x, y, groups[task]):
        trees = ExtraTreesRegressor(200, min_samples_leaf=5, max_features=0.5, n_jobs=1, random_state=0)
        predicted = trees.fit(x[fit], y[fit]).predict(x[judge])
        found[task[judge], rate[judge]] = np.abs(predicted - y[judge])
    known = np.isfinite(found)
    total = np.where(known, found, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def table(sightings: Sequence[Sightings]) -> str:
    """Markdown: the error with all observations, and how much larger it is without each group of them."""
    groups = np.repeat(np.arange(len(sightings)), [len(each.off) for each in sightings])
    told = {name: features for name, features in GROUPS.items() if name not in CONSTANT}
    every = [feature for features in told.values() for feature in features]
    lines: list[dict[str, str]] = [{"without": f"(mean error with all, {len(groups)} tasks)"}]
    lines += [{"without": name} for name in told]
    for share, part in enumerate(SHARES):
        column, whole = f"after {part:.0%}", errors(sightings, share, every)
        known = np.isfinite(whole)
        lines[0][column] = f"{whole[known].mean():.3f}"
        for line, features in zip(lines[1:], told.values(), strict=True):
            blind = errors(sightings, share, [name for name in every if name not in features])
            worse = (blind - whole)[known, None]
            found = mean_over_tasks(worse, np.zeros(known.sum(), dtype=int), groups[known])
            line[column] = f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
    return markdown(lines)


def main(out: Path, family: str = "practice", groups: int = 110, group_tasks: int = 4, workers: int = 0) -> int:
    """Train, fit and tell: ten minutes on two cores.

    Args:
        out: folder of information.json and information.md.
        family: of tasks, see `rlsched tasks`.
        groups: of tasks that are computed together, at least 2.
        group_tasks: tasks in each.
        workers: processes, by Ray; 0 for this one alone.
    """
    _check.choice("family", family, FAMILIES)
    _check.integer("groups", groups, 2)
    _check.integer("group_tasks", group_tasks, 1)
    setting = Setting(FAMILIES[family](), PolicyInterface(), "eager")
    units = [SightingUnit(seed, group_tasks) for seed in evaluation_seeds(0, groups, purpose=3)]
    with (
        choose_backend(workers, None)(setting) as backend,
        tqdm(total=groups, desc="runs", unit="group", dynamic_ncols=True) as bar,
    ):
        sightings = backend.run(units, done=lambda *_: bar.update())
    found = table(sightings)
    plain = [{name: value.tolist() for name, value in vars(each).items()} for each in sightings]
    text = json.dumps(plain).replace("NaN", "null")
    content = f'{{"made_with": {json.dumps(made_with())}, "sightings": {text}}}'
    write_atomically(out / "information.json", content.encode())
    write_atomically(out / "information.md", f"{found}\n".encode())
    print(f"Mean error of the predicted distance from the best learning rate, decades\n\n{found}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main, prog="python -m rlsched.experiments.information"))
    except (OSError, ArgumentError) as error:
        sys.exit(f"information: {error}")
