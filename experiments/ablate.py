"""`rlsched ablate`."""

from __future__ import annotations

from pathlib import Path

from rlsched import _check
from rlsched.agents.presets import PRESETS
from rlsched.experiments.ablations.study import Study, markdown
from rlsched.experiments.ablations.variants import VARIANTS, WHOLE
from rlsched.experiments.backend import choose_backend
from rlsched.experiments.config_file import read_config
from rlsched.experiments.task_family import task_family


def main(
    out: Path,
    preset: str = "quick",
    config: Path | None = None,
    seeds: int = 3,
    variants: tuple[str, ...] = tuple(VARIANTS),
    groups: int = 32,
    group_tasks: int = 4,
    workers: int = 0,
    ray_address: str | None = None,
) -> None:
    """Train the recipe without one of its parts at a time, and compare the policies on tasks of their own.

    A study that was stopped goes on where it was.

    Args:
        out: folder; every training has one of its own in it.
        preset: the whole recipe.
        config: file of settings that change the preset, see docs/training.md.
        seeds: trainings of each variant, at least 1.
        variants: names, by default all.
        groups: of tasks that judge the policies, computed together.
        group_tasks: tasks in each.
        workers: processes that train tasks, by Ray; 0 for this process alone.
        ray_address: of the cluster, see `rlsched train --help`.
    """
    _check.integer("seeds", seeds, 1)
    _check.integer("groups", groups, 1)
    _check.integer("group_tasks", group_tasks, 1)
    base = PRESETS[_check.choice("preset", preset, PRESETS)]
    if config is not None:
        base = read_config(config, base)
    for variant in variants:
        _check.choice("variants", variant, VARIANTS)
    study = Study(out, base, task_family(base.tasks), groups, group_tasks)
    chosen = [WHOLE, *(variant for variant in variants if variant != WHOLE)]
    found = study.run(chosen, seeds, choose_backend(workers, ray_address))
    table = markdown(found)
    (out / "ablations.md").write_text(table + "\n")
    print(table)
