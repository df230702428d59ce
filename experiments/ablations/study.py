"""Trainings of every variant from several seeds, and how their policies score."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlsched._files import write_atomically
from rlsched.agents import TrainConfig
from rlsched.agents.evaluation import Baselines, Comparison, EvaluationUnit, evaluation_seeds
from rlsched.agents.rollouts import Backend, Setting
from rlsched.contract import Array
from rlsched.envs.tasks import TaskFamily
from rlsched.experiments.ablations.shared import Results, SharedResults
from rlsched.experiments.ablations.variants import VARIANTS, WHOLE
from rlsched.experiments.train import train_with_bar
from rlsched.policy import Policy, PolicyInterface

MakeBackend = Callable[[Setting], Backend]


@dataclass(frozen=True)
class Row:
    """What a variant gave.

    Attributes:
        variant: its name.
        score: mean over seeds and tasks; lower is better.
        worse_by: mean over seeds of the score minus that of the whole recipe of the same seed; above zero where
            the part that is missing pays.
        standard_error: of `worse_by`, over seeds; None for a single seed.
        ahead_of_tuned: mean score minus that of linear decay tuned per task.
        seeds: how many.
    """

    variant: str
    score: float
    worse_by: float
    standard_error: float | None
    ahead_of_tuned: float
    seeds: int


@dataclass(frozen=True)
class Study:
    """Where the trainings lie, and the tasks that judge them: none of them trained or selected a policy.

    Attributes:
        out: a folder for each training in it, which is used or continued if it is there.
        base: the recipe.
        tasks: its family.
        groups: of tasks that judge, computed together.
        group_tasks: tasks in each.
    """

    out: Path
    base: TrainConfig
    tasks: TaskFamily
    groups: int = 32
    group_tasks: int = 4

    def run(self, variants: list[str], seeds: int, backend: MakeBackend) -> list[Row]:
        """Train and judge every variant from every seed."""
        setting = Setting(self.tasks, PolicyInterface(self.base.action), self.base.tasks.unstackable)
        # The same tasks for all, so that differences are paired.
        units = [
            EvaluationUnit(seed, self.group_tasks) for seed in evaluation_seeds(2**31, self.groups, purpose=1)
        ]
        scores: dict[str, list[Array]] = {}
        baselines: Baselines | None = None
        for seed in range(seeds):
            # Variants of one seed tune the same tasks, most of what a training costs.
            known: Results = {}
            shared = functools.partial(_shared, backend, known)
            for variant in variants:
                policy = self._train(variant, seed, shared)
                with backend(setting) as workers:
                    found = Comparison.measure(workers, dict(policy.tensors), units, baselines)
                baselines = found.baselines
                scores.setdefault(variant, []).append(found.outcome.scores)
                assert baselines is not None
                self._write(rows(scores, baselines))
        assert baselines is not None
        return rows(scores, baselines)

    def _train(self, variant: str, seed: int, backend: MakeBackend) -> Policy:
        config = dataclasses.replace(VARIANTS[variant](self.base), seed=seed)
        folder = self.out / f"{list(VARIANTS).index(variant):02d}-{seed}"
        print(f"{variant}, seed {seed}: {folder}")
        resume = (folder / "checkpoint.pt").exists()
        return train_with_bar(config, folder, tasks=self.tasks, backend=backend, resume=resume)

    def _write(self, found: list[Row]) -> None:
        plain = [dataclasses.asdict(row) for row in found]
        write_atomically(self.out / "ablations.json", json.dumps(plain, indent=2).encode())


def _shared(make: MakeBackend, known: Results, setting: Setting) -> SharedResults:
    return SharedResults(make(setting), known)


def rows(scores: dict[str, list[Array]], baselines: Baselines) -> list[Row]:
    """A row for each variant, by its seeds' (n,) scores."""
    found = []
    for variant, each in scores.items():
        # The whole recipe comes first, so it has been trained from every seed of the others.
        differences = np.array(
            [mine.mean() - whole.mean() for mine, whole in zip(each, scores[WHOLE], strict=False)]
        )
        spread = float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else None
        found.append(
            Row(
                variant=variant,
                score=float(np.mean(each)),
                worse_by=float(differences.mean()),
                standard_error=spread,
                ahead_of_tuned=float(np.mean(each) - baselines.tuned_linear.mean()),
                seeds=len(each),
            )
        )
    return found


def markdown(found: list[Row]) -> str:
    """The table of docs/training.md."""
    lines = ["| recipe | score | worse by | against tuned linear decay |", "|---|---|---|---|"]
    for row in found:
        error = "" if row.standard_error is None else f" ± {row.standard_error:.3f}"
        worse = "" if row.variant == WHOLE else f"{row.worse_by:+.3f}{error}"
        lines.append(f"| {row.variant} | {row.score:.3f} | {worse} | {row.ahead_of_tuned:+.3f} |")
    return "\n".join(lines)
