"""`rlsched compare`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from rlsched import _check
from rlsched._files import write_atomically
from rlsched.agents import TaskSettings
from rlsched.contract import Array
from rlsched.envs.population import Population
from rlsched.envs.tasks import FAMILIES, Task, TaskFamily
from rlsched.experiments.evaluation.statistics import mean_by_student
from rlsched.experiments.methods import CatalogueEntry, find
from rlsched.experiments.plots.side_by_side import plot_side_by_side
from rlsched.experiments.side_by_side import Outcome, run_controller, run_driver
from rlsched.experiments.task_family import task_family


def main(
    task: str = "digits",
    controllers: str = "linear,cosine,rlsched",
    seeds: int = 5,
    task_seed: int = 0,
    base_lr_factor: float = 1.0,
    out: Path = Path("runs/compare"),
) -> None:
    """Run methods side by side on one task, each from the same seeds.

    Args:
        task: the family that the task is drawn from, see `rlsched tasks`, or "package.module:function".
        controllers: names of methods, separated by commas; `rlsched controllers` lists them.
        seeds: runs of each; a seed is the same model and order of the data for every method.
        task_seed: decides which task of the family it is.
        base_lr_factor: base learning rate as a multiple of a sensible one for the family.
        out: folder for the picture and the figures.
    """
    entries = find(controllers)
    _check.integer("seeds", seeds, 1, 1000)
    _check.integer("task_seed", task_seed, 0)
    _check.real("base_lr_factor", base_lr_factor, 1e-6, 1e6)
    chosen = draw(task, task_seed, base_lr_factor)
    for entry in entries:
        _check_fits(entry, chosen)
    outcomes: dict[str, Outcome] = {}
    with tqdm(total=len(entries) * seeds, desc="comparing", unit="run", dynamic_ncols=True) as bar:
        for entry in entries:
            bar.set_postfix_str(entry.name)
            outcomes[entry.name] = _run(entry, chosen, list(range(seeds)), bar)
    Console().print(table(outcomes, chosen))
    picture = plot_side_by_side(outcomes, out / "comparison.png")
    write_atomically(out / "comparison.json", json.dumps(_plain(outcomes, chosen), indent=2).encode())
    print(f"Picture: {picture}. Figures: {out / 'comparison.json'}.")


def draw(name: str, seed: int, factor: float) -> Task:
    """A task of the family `name`, at `factor` times the family's sensible learning rate."""
    family: TaskFamily
    if ":" in name:
        family = task_family(TaskSettings(function=name, unstackable="eager"))
    else:
        _check.choice("task", name, FAMILIES)
        family = FAMILIES[name]()
    config = family.sample(np.random.default_rng(seed))
    return family.build(dataclasses.replace(config, base_lr=factor * family.sensible_lr(config), curriculum=True))


def _check_fits(entry: CatalogueEntry, task: Task) -> None:
    """ArgumentError if it cannot schedule a run of `task`, before anything is trained."""
    method = entry.create()
    if entry.driver:
        return
    engine = Population([task], unstackable="eager")
    engine.reset([0])
    try:
        method.init(engine.spec)
    except ValueError as error:
        raise _check.ArgumentError(f"controllers: {entry.name} cannot schedule this task. {error}") from error


def _run(entry: CatalogueEntry, task: Task, seeds: list[int], bar: Any) -> Outcome:
    if entry.driver:
        return run_driver(task, entry.create(), seeds, bar.update)
    outcome = run_controller(task, entry.create(), seeds)
    bar.update(len(seeds))
    return outcome


def table(outcomes: dict[str, Outcome], task: Task) -> Table:
    """The figures for people: losses at the end, and against the first method, seed by seed."""
    first, reference = next(iter(outcomes.items()))
    config = task.config
    shown = Table(
        "method", "validation loss", "test loss", f"ln(test / {first}'s)", "steps spent",
        title=f"{type(config).__name__.removesuffix('Config')}: {config.num_steps} steps, {config.optimizer}, "
        f"base learning rate {config.base_lr:.2g}",
        caption=f"Mean and half of the 95 % interval over {len(reference.test)} seeds.",
    )  # fmt: skip
    for name, outcome in outcomes.items():
        ratios = _log_ratio(outcome.test, reference.test)
        shown.add_row(
            name, _shown(outcome.final), _shown(outcome.test), "" if name == first else _shown(ratios, "+"),
            f"{outcome.spent.mean():,.0f}",
        )  # fmt: skip
    return shown


def _log_ratio(test: Array, reference: Array) -> Array:
    """ln(test / reference), from losses that are kept in the range of 32-bit floats."""
    one, other = (np.log(np.clip(values, 1e-38, 1e38)) for values in (test, reference))
    return np.asarray(one - other)


def _shown(values: Array, sign: str = "") -> str:
    failed = int((~np.isfinite(values)).sum())
    if failed:
        return f"{failed} of {len(values)} failed"
    found = mean_by_student(values)
    half = found.high - found.value
    return f"{found.value:{sign}.4f}" + ("" if np.isnan(half) else f" ± {half:.4f}")


def _plain(outcomes: dict[str, Outcome], task: Task) -> dict[str, Any]:
    """Everything as JSON; what is not finite is null."""
    return {
        "task": {"family": type(task.config).__name__, **dataclasses.asdict(task.config)},
        "methods": {
            name: {
                field.name: _finite(getattr(outcome, field.name).tolist()) for field in dataclasses.fields(outcome)
            }
            for name, outcome in outcomes.items()
        },
    }


def _finite(values: Any) -> Any:
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return values if np.isfinite(values) else None
