"""Rounds of trying and fitting, each from the states of the policy that the round before left."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rlsched
from rlsched import _check
from rlsched._files import write_atomically
from rlsched.agents.evaluation import EvaluationUnit, evaluation_seeds, join_outcomes
from rlsched.agents.refinement.branching import Branches, BranchUnit
from rlsched.agents.refinement.fitting import fit
from rlsched.agents.rollouts import Backend, InProcess, Job, Setting, unit_seed
from rlsched.agents.run_folder import check_same, made_with, stored_settings
from rlsched.contract import Array
from rlsched.envs.tasks import TaskFamily
from rlsched.policy import Policy

_BRANCHES = 2**29
"""Beyond any iteration of PPO, below the rounds of the warm start: no unit shares a seed with theirs."""

Report = Callable[[str, int, int], None]
"""Called with a stage, and how many of how many jobs of it are done."""


@dataclass(frozen=True)
class Refinement:
    """Settings of a refinement.

    Attributes:
        seed: of everything.
        rounds: each of new tasks, after which the policy is fitted to all that was tried so far.
        groups: of tasks in each round.
        group_tasks: tasks in each, computed together, at least 3.
        points: decisions of each run at which other learning rates are tried.
        exploration: standard deviation of the student's actions, in [0, 1].
        epochs: passes over all states in a fit.
        learning_rate: of Adam in a fit, at first.
        most: regret that a state counts at most, in nats.
        evaluated: groups of four tasks, never learned from, that choose among the rounds.
    """

    seed: int = 0
    rounds: int = 8
    groups: int = 40
    group_tasks: int = 16
    points: int = 3
    exploration: float = 0.15
    epochs: int = 12
    learning_rate: float = 3e-4
    most: float = 4.0
    evaluated: int = 48

    def __post_init__(self) -> None:
        _check.integer("seed", self.seed, 0, 2**32 - 1)
        for name in ("rounds", "groups", "points", "epochs", "evaluated"):
            _check.integer(name, getattr(self, name), 1)
        _check.integer("group_tasks", self.group_tasks, 3)
        _check.real("exploration", self.exploration, 0.0, 1.0)
        _check.real("learning_rate", self.learning_rate, 0.0, 1.0)
        _check.real("most", self.most, 1e-3, 100.0)

    def units(self, number: int) -> list[BranchUnit]:
        """What is tried in round `number`."""
        seeds = [unit_seed(self.seed, _BRANCHES + number, index) for index in range(self.groups)]
        return [BranchUnit(seed, self.group_tasks, self.points) for seed in seeds]


def refine(
    start: Policy,
    config: Refinement,
    out: Path,
    *,
    tasks: TaskFamily,
    unstackable: str = "refuse",
    backend: Callable[[Setting], Backend] = InProcess,
    resume: bool = False,
    report: Report = lambda stage, done, total: None,
) -> Policy:
    """Refine `start`, and return the best of it and of every round, on tasks that none of them learned from.

    `out` receives `config.json`, what was tried in each round (`branches-N.npz`), and `policy.safetensors`.

    Args:
        start: the policy, by its own action decoding.
        config: what to do.
        out: folder of the run.
        tasks: the distribution of tasks.
        unstackable: what to do about tasks that cannot be computed side by side: "refuse" or "eager".
        backend: makes what does the jobs; the policy is the same by any.
        resume: go on in `out` after the last round that is whole; the result is the same as without the stop.
        report: called at the beginning of a stage, and after every job of it.

    Raises:
        FileExistsError: `out` holds a refinement and `resume` is False.
        FileNotFoundError: `out` holds none and `resume` is True.
        ValueError: the one in `out` has other settings, or another start, or is damaged.
    """
    out = Path(out)
    settings = _claim(out, start, config, tasks, resume)
    torch.set_num_threads(1)
    best, scores, parts = start, list[Array](), list[Branches]()
    units = [EvaluationUnit(seed, 4) for seed in evaluation_seeds(config.seed, config.evaluated)]
    with backend(Setting(tasks, start.interface, unstackable)) as workers:

        def run(stage: str, jobs: Sequence[Job], policy: Policy) -> list[Any]:
            done = 0

            def tell(*_: Any) -> None:
                nonlocal done
                done += 1
                report(stage, done, len(jobs))

            report(stage, 0, len(jobs))
            exploration = np.full(1 + tasks.num_buckets, np.log(max(config.exploration, 1e-12)))
            return workers.run(jobs, {**policy.tensors, "log_std": exploration}, tell)

        policy = start
        scores.append(join_outcomes(run("start", units, start)).scores)
        for number in range(config.rounds):
            path, stage = out / f"branches-{number}.npz", f"round {number + 1}/{config.rounds}"
            if not path.exists():
                _save(path, Branches.join(run(stage, config.units(number), policy)))
            parts.append(_load(path))
            policy = fit(
                start,
                Branches.join(parts),
                epochs=config.epochs,
                learning_rate=config.learning_rate,
                most=config.most,
                seed=unit_seed(config.seed, _BRANCHES + number, config.groups),
            )
            scores.append(join_outcomes(run(f"{stage} evaluated", units, policy)).scores)
            if scores[-1].mean() <= min(score.mean() for score in scores):
                best = policy
            _finish(best, scores, settings).save(out / "policy.safetensors")
    return Policy.load(out / "policy.safetensors")


def _claim(out: Path, start: Policy, config: Refinement, tasks: TaskFamily, resume: bool) -> dict[str, Any]:
    """The settings of the run in `out`, which it must not hold otherwise."""
    weights = b"".join(start.tensors[name].tobytes() for name in sorted(start.tensors))
    settings: dict[str, Any] = {**dataclasses.asdict(config), "distribution": repr(tasks)}
    settings["start"] = {"sha256": hashlib.sha256(weights).hexdigest(), "training": dict(start.metadata.training)}
    stored = out / "config.json"
    if resume and not stored.exists():
        raise FileNotFoundError(f"{out} holds nothing to resume: start without --resume.")
    if stored.exists():
        if not resume:
            raise FileExistsError(f"{out} holds a run: pass --resume to continue it, or another --out.")
        check_same(out, stored_settings(stored), json.loads(json.dumps(settings)))
    settings["made_with"] = made_with()
    write_atomically(stored, json.dumps(settings, indent=2).encode())
    return settings


def _finish(policy: Policy, scores: Sequence[Array], settings: dict[str, Any]) -> Policy:
    """`policy`, with what is to be said of it."""
    means = [float(score.mean()) for score in scores]
    evaluation = {
        "what": "mean ln(final / initial validation loss) on tasks that chose among the rounds",
        "tasks": len(scores[0]),
        "score": min(means),
        "start": means[0],
        "rounds": means[1:],
    }
    metadata = dataclasses.replace(
        policy.metadata, training=settings, evaluation=evaluation, rlsched_version=rlsched.__version__
    )
    return dataclasses.replace(policy, metadata=metadata)


def _save(path: Path, branches: Branches) -> None:
    content = io.BytesIO()
    np.savez(content, **dataclasses.asdict(branches))
    write_atomically(path, content.getvalue())


def _load(path: Path) -> Branches:
    with np.load(path) as found:
        return Branches(found["observations"], found["regret"])
