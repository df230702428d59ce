"""`rlsched refine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from rlsched.agents import TaskSettings
from rlsched.agents.refinement import Refinement, refine
from rlsched.envs.tasks import Natural
from rlsched.experiments.backend import choose_backend
from rlsched.experiments.task_family import task_family
from rlsched.policy import Policy


def main(
    out: Path,
    tasks: TaskSettings,
    refinement: Annotated[Refinement, tyro.conf.arg(name="")],
    policy: Path | None = None,
    workers: int = 0,
    ray_address: str | None = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Improve a policy on tasks of your choice: in states that it comes to, other learning rates are tried.

    Args:
        out: folder of the run: what was tried in each round, and the policy.
        tasks: where the tasks come from.
        refinement: what to do.
        policy: file of the policy to start from; by default the one that comes with rlsched.
        workers: processes that train tasks, by Ray; 0 for this process alone.
        ray_address: of the cluster, see `rlsched train --help`.
        resume: go on in that folder after the last round that is whole.
    """
    start = Policy.load(policy) if policy else Policy.default()
    found = refine_with_bar(start, refinement, out, tasks, workers, ray_address, resume)
    figures = found.metadata.evaluation
    print(
        f"\nScore on the {figures['tasks']} tasks that chose among the rounds, lower is better: "
        f"{figures['score']:.3f}, of the policy it started from: {figures['start']:.3f}.\n"
        f"On tasks that chose nothing: rlsched score {out / 'policy.safetensors'}"
    )


def refine_with_bar(
    start: Policy,
    config: Refinement,
    out: Path,
    tasks: TaskSettings,
    workers: int = 0,
    ray_address: str | None = None,
    resume: bool = False,
) -> Policy:
    """`refine` on `tasks`, with a progress bar."""
    family = task_family(tasks) if tasks.curriculum else Natural(task_family(tasks))
    with tqdm(dynamic_ncols=True, unit="unit", smoothing=0.0) as bar:

        def report(stage: str, done: int, total: int) -> None:
            if not done:
                bar.set_description_str(stage, refresh=False)
                bar.reset(total=total)
            bar.update(done - bar.n)

        backend = choose_backend(workers, ray_address)
        return refine(
            start, config, out,
            tasks=family, unstackable=tasks.unstackable, backend=backend, resume=resume, report=report,
        )  # fmt: skip
