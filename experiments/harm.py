"""`rlsched harm`."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from rlsched import _check
from rlsched._files import write_atomically
from rlsched.agents import TaskSettings
from rlsched.agents.evaluation import evaluation_seeds
from rlsched.agents.rollouts import Setting, Weights
from rlsched.experiments.backend import choose_backend
from rlsched.experiments.plain_run import run_policy, run_schedule
from rlsched.experiments.task_family import task_family
from rlsched.policy import Policy, PolicyMetadata

HARM = math.log(1.05)
"""Nats of validation loss by which a run is worse than it has to be."""
LIMIT = 20.0
"""Nats beyond which a difference is not told from one to a run that is not finite."""
CHANCE = "linear decay again"
"""The yardstick of a difference: linear decay once more, with the examples in another order."""
METHODS = {"LR only": False, "LR and curriculum": True}


@dataclass(frozen=True)
class Case:
    """One task, trained with plain linear decay and with the policy, from the same base learning rate and seed.

    Attributes:
        task: its family, optimizer, steps and what is wrong with its data.
        misjudged: decades from the family's sensible learning rate to the base.
        feedback: whether the policy was told validation losses.
        linear: ln(final validation loss) of linear decay.
        policy: by method, and for `CHANCE`, ln(final validation loss) minus that, within `LIMIT`; `LIMIT` itself
            if the loss is not finite.
    """

    task: str
    misjudged: float
    feedback: bool
    linear: float
    policy: dict[str, float]


@dataclass(frozen=True)
class HarmUnit:
    """A job that gives the `Case` of one task.

    Attributes:
        seed: of the task and its runs.
        guard: whether the scheduler guards the policy.
    """

    seed: int
    guard: bool = True

    def run(self, setting: Setting, weights: Weights) -> Case:
        """Train it, as a user would: an eager loop and an `RLScheduler`."""
        rng = np.random.default_rng(self.seed)
        config = setting.tasks.sample(rng)
        task, seed = setting.tasks.build(config), int(rng.integers(2**31))
        policy = Policy(dict(weights), PolicyMetadata(setting.interface.action))
        linear = math.log(run_schedule(task, seed, "linear").validation_loss)
        losses = {CHANCE: math.log(run_schedule(task, seed, "linear", order_seed=seed + 1).validation_loss)}
        for method, curriculum in METHODS.items():
            if curriculum <= config.curriculum:
                result = run_policy(
                    task, seed, policy, curriculum=curriculum, feedback=config.feedback, guard=self.guard
                )
                losses[method] = math.log(result.validation_loss)
        return Case(
            task=f"{type(config).__name__.removesuffix('Config')}, {config.optimizer}, {config.num_steps} steps, "
            f"batches of {config.batch_size}, {getattr(config, 'label_noise', 0.0):.0%} noise",
            misjudged=math.log10(config.base_lr / setting.tasks.sensible_lr(config)),
            feedback=config.feedback,
            linear=min(linear, LIMIT),
            policy={name: _difference(loss, linear) for name, loss in losses.items()},
        )


def _difference(loss: float, reference: float) -> float:
    if not math.isfinite(loss):
        return LIMIT
    return float(np.clip(loss - reference, -LIMIT, 0.99 * LIMIT)) if math.isfinite(reference) else -LIMIT


def main(
    policy: Annotated[Path, tyro.conf.Positional],
    tasks: TaskSettings,
    count: int = 1000,
    seed: int = 1,
    guard: bool = True,
    workers: int = 0,
    ray_address: str | None = None,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Train random tasks from misjudged base learning rates, with a policy and with plain linear decay.

    Each run is an ordinary PyTorch loop with an RLScheduler, as in your script. The base learning rates are
    misjudged as in training, by up to 100x either way.

    Args:
        policy: the file.
        tasks: where the tasks come from.
        count: tasks.
        seed: of the tasks.
        guard: let the scheduler guard the policy, as it does by default.
        workers: processes that train tasks, by Ray; 0 for this process alone.
        ray_address: of the cluster, see `rlsched train --help`.
        json_file: file to write every case to.
    """
    _check.integer("count", count, 1)
    loaded = Policy.load(policy)
    setting = Setting(task_family(tasks), loaded.interface, tasks.unstackable)
    jobs = [HarmUnit(each, guard) for each in evaluation_seeds(seed, count, purpose=2)]
    with (
        choose_backend(workers, ray_address)(setting) as backend,
        tqdm(total=count, desc="training", unit="task", dynamic_ncols=True) as bar,
    ):
        cases = backend.run(jobs, dict(loaded.tensors), done=lambda *_: bar.update())
    console = Console(width=120)
    console.print(summary(cases))
    console.print(worst(cases))
    if json_file is not None:
        write_atomically(json_file, json.dumps([dataclasses.asdict(case) for case in cases], indent=2).encode())


def summary(cases: Sequence[Case]) -> Table:
    """How often the policy did harm, by method and by how far the learning rate was misjudged."""
    shown = Table(
        "method", "tasks", "n", "not finite", "worse by > 5 %", "better by > 5 %", "median difference",
        title="Final validation loss against linear decay from the same base learning rate",
        caption="Differences in ln(loss); below 0 the policy is better.",
    )  # fmt: skip
    kinds = {
        "all": lambda case: True,
        "with validation feedback": lambda case: case.feedback,
        "without": lambda case: not case.feedback,
        "base 10x too low or more": lambda case: case.misjudged <= -1.0,
        "base within 10x": lambda case: abs(case.misjudged) < 1.0,
        "base 10x too high or more": lambda case: case.misjudged >= 1.0,
    }
    for method in (*METHODS, CHANCE):
        for kind, which in kinds.items():
            found = np.array([case.policy[method] for case in cases if method in case.policy and which(case)])
            if found.size:
                shown.add_row(
                    method, kind, str(found.size), str(int((found >= LIMIT).sum())),
                    f"{(found > HARM).mean():.1%}", f"{(found < -HARM).mean():.1%}", f"{np.median(found):+.3f}",
                )  # fmt: skip
    return shown


def worst(cases: Sequence[Case], count: int = 10) -> Table:
    """The cases in which the policy did most harm."""
    shown = Table("difference", "method", "misjudged", "feedback", "linear", "task", title="The worst cases")
    found = [(case.policy[method], method, case) for case in cases for method in METHODS if method in case.policy]
    for value, method, case in sorted(found, key=lambda each: -each[0])[:count]:
        shown.add_row(
            f"{value:+.2f}", method, f"{10.0**case.misjudged:.3g}x", "yes" if case.feedback else "no",
            f"{case.linear:.2f}", case.task,
        )  # fmt: skip
    return shown
