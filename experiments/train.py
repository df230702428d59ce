"""`rlsched train`."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from rlsched import _check
from rlsched.agents import Progress, TrainConfig, train
from rlsched.envs.population import Population
from rlsched.envs.tasks import FAMILIES, TaskFamily, UserFamily, load_task
from rlsched.policy import Policy


def main(
    out: Path,
    config: Annotated[TrainConfig, tyro.conf.arg(name="")],
    tasks: str | None = None,
    task: str | None = None,
    misjudged: float = 100.0,
    resume: bool = False,
) -> None:
    """Learn a schedule policy by PPO and export it.

    Args:
        out: folder of the run: checkpoint, policy file, TensorBoard scalars.
        config: settings.
        tasks: the family of training tasks, by default "quick"; `rlsched tasks` lists them.
        task: instead, a task of your own: "package.module:function", see docs/tasks.md.
        misjudged: largest factor between the base learning rates of training tasks and sensible ones.
        resume: continue the run in that folder after it was stopped.
    """
    family = _family(tasks, task, misjudged)
    if task is not None:
        print(_how_computed(family, config.unstackable))
    train_with_bar(config, out, family, resume=resume)
    policy = out / "policy.safetensors"
    print(
        f"\nThe best policy evaluated is in {policy}. Next:\n"
        f"  rlsched inspect {policy}\n"
        f"  tensorboard --logdir {out / 'tensorboard'}\n"
        f'  scheduler = rlsched.RLScheduler(optimizer, num_steps=..., policy="{policy}")'
    )


def train_with_bar(
    config: TrainConfig, out: Path, tasks: TaskFamily | None = None, *, resume: bool = False
) -> Policy:
    """`agents.train` behind a progress bar with the score and the time left."""
    with tqdm(total=config.iterations, desc="training", unit="iteration", dynamic_ncols=True) as bar:

        def report(progress: Progress) -> None:
            shown = {}
            if math.isfinite(progress.mean_return):
                shown["return"] = f"{progress.mean_return:.2f}"
            if math.isfinite(progress.gain):
                shown |= {"over linear": f"{progress.gain:+.2f}", "best": f"{progress.best_gain:+.2f}"}
            bar.set_postfix(shown, refresh=False)
            bar.update(progress.iteration - bar.n)

        return train(config, out, tasks=tasks, resume=resume, report=report)


def _family(tasks: str | None, task: str | None, misjudged: float) -> TaskFamily:
    if task is None:
        name = _check.choice("tasks", "quick" if tasks is None else tasks, FAMILIES)
        return FAMILIES[name](misjudged=misjudged)
    if tasks is not None:
        raise _check.ArgumentError(f"--tasks {tasks} and --task {task} exclude each other: give one of them.")
    # As for `python -m`: what lies in the present folder can be imported.
    sys.path.insert(0, "")
    try:
        return UserFamily(load_task(task), misjudged=misjudged)
    except (TypeError, ValueError) as error:
        raise _check.ArgumentError(str(error)) from error


def _how_computed(family: TaskFamily, unstackable: str) -> str:
    """Which path a population takes for tasks of `family`; ArgumentError if none is allowed."""
    rng = np.random.default_rng(0)
    first = family.sample(rng)
    population = Population(
        [family.build(family.sample_like(rng, first)) for _ in range(4)], unstackable=unstackable
    )
    try:
        population.reset(range(4))
    except ValueError as error:
        raise _check.ArgumentError(f"{error} On the command line: --unstackable eager.") from error
    ways = {
        "mlp": "side by side, stacked by hand (the fastest way)",
        "module": "side by side, stacked by torch.func",
        "eager": f"one after another, the slowest way: {population.reasons[0]}",
    }
    return f"Your task's runs are computed {ways[population.paths[0]]}."
