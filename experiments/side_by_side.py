"""Methods side by side on one task, from the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rlsched.contract import Array, Controller
from rlsched.envs.drive import trace
from rlsched.envs.drivers import Driver
from rlsched.envs.population import Population
from rlsched.envs.tasks import Task


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method did on the task, from S seeds. Of drivers, the final run.

    Attributes:
        steps: (S, W) steps done at the end of each window, NaN beyond a run's last.
        validation: (S, W) validation loss there, inf once a run has failed.
        lr: (S, W) learning rate at each window's first step.
        bucket_weights: (S, W, K) in it; of a driver (S, W, 1).
        test: (S,) test loss at the end; inf where a run has failed.
        spent: (S,) optimizer steps for one result, those of searches and branches included.
    """

    steps: Array
    validation: Array
    lr: Array
    bucket_weights: Array
    test: Array
    spent: Array

    @property
    def final(self) -> Array:
        """(S,) validation loss at the end."""
        last = np.isfinite(self.steps).sum(axis=1) - 1
        return self.validation[np.arange(len(last)), last]


def run_controller(task: Task, controller: Controller, seeds: Sequence[int]) -> Outcome:
    """`controller` on `task`, from all seeds together."""
    engine = Population([task] * len(seeds), unstackable="eager")
    engine.reset(list(seeds))
    traces = trace(engine, controller, np.full(len(seeds), task.config.feedback))
    test = np.where(np.isfinite(traces.final), engine.test_loss(), np.inf)
    return Outcome(
        traces.steps,
        traces.validation,
        task.config.base_lr * traces.lr_scale,
        traces.bucket_weights,
        test,
        np.nanmax(traces.steps, axis=1),
    )


def run_driver(task: Task, driver: Driver, seeds: Sequence[int], done: Callable[[], object]) -> Outcome:
    """`driver` on `task`, from one seed after the other; `done` is called after each."""
    results = []
    for seed in seeds:
        results.append(driver.run(task, seed))
        done()
    width = max(len(result.steps) for result in results)

    def padded(rows: list[Array]) -> Array:
        return np.stack([np.pad(row.astype(float), (0, width - len(row)), constant_values=np.nan) for row in rows])

    return Outcome(
        padded([result.steps for result in results]),
        padded([result.validation for result in results]),
        padded([result.lr for result in results]),
        np.ones((len(seeds), width, 1)),
        np.array([result.test for result in results]),
        np.array([result.spent for result in results], dtype=float),
    )
