"""One piece of an evaluation: a comparator on some tasks, tuned on one seed and reported on others."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlsched.agents.rollouts import Setting, Weights
from rlsched.envs.tasks import Task, TaskConfig
from rlsched.experiments.evaluation.comparators import Comparator, Ran


@dataclass(frozen=True)
class Run:
    """A run in the results. Losses are ln(loss / that before training); see docs/evaluation.md.

    Attributes:
        task: number of the task in the job, and later in the suite.
        method: name of the comparator.
        factor: its base learning rate over the task's sensible one.
        role: "tuning", which chooses the learning rate, or "report".
        seed: number of the seed in its role.
        validation: at the end.
        test: at the end.
        num_steps: optimizer steps of the run.
        seconds: of computing, as a share of what was computed together.
        steps: of a report, steps done at the end of each window; else empty.
        curve: validation loss there.
        lr: learning rate at each window's first step, if it was scheduled here; else empty.
        bucket_weights: likewise.
        spent: optimizer steps, a driver's searches and branches included, over `num_steps`.
    """

    task: int
    method: str
    factor: float
    role: str
    seed: int
    validation: float
    test: float
    num_steps: int
    seconds: float
    steps: list[int] = dataclasses.field(default_factory=list)
    curve: list[float] = dataclasses.field(default_factory=list)
    lr: list[float] = dataclasses.field(default_factory=list)
    bucket_weights: list[list[float]] = dataclasses.field(default_factory=list)
    spent: float = 1.0


@dataclass(frozen=True)
class MethodJob:
    """Runs `comparator` on tasks that are computed together.

    Attributes:
        configs: of the tasks.
        comparator: how they are scheduled.
        seed: of all runs; the same for every comparator, so that results are paired.
        reports: runs of each task that are reported, each from a seed of its own.
    """

    configs: tuple[TaskConfig, ...]
    comparator: Comparator
    seed: int
    reports: int

    def run(self, setting: Setting, weights: Weights) -> list[Run]:
        """Tuning first, if there is something to tune; then the reports at the learning rate it chose."""
        factors = self.comparator.factors
        tasks = [
            setting.tasks.build(config).with_curriculum(self.comparator.curriculum) for config in self.configs
        ]
        sensible = [setting.tasks.sensible_lr(config) for config in self.configs]
        seeds = np.random.SeedSequence(self.seed).generate_state((1 + self.reports) * len(tasks))
        seeds = seeds.reshape(1 + self.reports, len(tasks)) % 2**31
        runs: list[Run] = []
        best = np.zeros(len(tasks), dtype=int)
        if len(factors) > 1:
            rows = [(at, factor, "tuning", 0) for at in range(len(tasks)) for factor in factors]
            runs += self._train(setting, weights, tasks, sensible, rows, seeds)
            losses = np.array([run.validation for run in runs]).reshape(len(tasks), len(factors))
            best = losses.argmin(axis=1)
        rows = [(at, factors[best[at]], "report", n) for at in range(len(tasks)) for n in range(self.reports)]
        return runs + self._train(setting, weights, tasks, sensible, rows, seeds)

    def _train(
        self,
        setting: Setting,
        weights: Weights,
        tasks: Sequence[Task],
        sensible: Sequence[float],
        rows: Sequence[tuple[int, float, str, int]],
        seeds: np.ndarray,
    ) -> list[Run]:
        started = time.perf_counter()
        found = self.comparator.train(
            setting,
            weights,
            [tasks[at].with_base_lr(sensible[at] * factor) for at, factor, _, _ in rows],
            [int(seeds[0 if role == "tuning" else 1 + n, at]) for at, _, role, n in rows],
            whole=rows[0][2] == "report",
        )
        seconds = (time.perf_counter() - started) / len(rows)
        return [
            self._run(ran, at, factor, role, number, tasks[at].config.num_steps, seconds)
            for ran, (at, factor, role, number) in zip(found, rows, strict=True)
        ]

    def _run(
        self, ran: Ran, task: int, factor: float, role: str, number: int, num_steps: int, seconds: float
    ) -> Run:
        run = Run(
            task, self.comparator.name, factor, role, number, _short(ran.validation), _short(ran.test), num_steps,
            _short(seconds), spent=_short(ran.spent),
        )  # fmt: skip
        if role == "tuning":
            return run
        run = dataclasses.replace(
            run, steps=[int(step) for step in ran.steps], curve=[_short(value) for value in ran.curve]
        )
        if self.comparator.kind == "library":
            return run
        weights = ran.bucket_weights if self.comparator.curriculum else ran.bucket_weights[:0]
        return dataclasses.replace(
            run,
            lr=[_short(value) for value in ran.lr],
            bucket_weights=[[_short(value) for value in row] for row in weights],
        )


def _short(value: float) -> float:
    """Five digits: the file holds tens of thousands of them."""
    return float(f"{value:.5g}")
