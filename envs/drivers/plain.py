"""One run of a task under a controller, from its first step to its last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched.contract import Array, Controller, Decision, Window
from rlsched.envs.drive import drive
from rlsched.envs.drivers.driver import Driven
from rlsched.envs.drivers.record import Record
from rlsched.envs.population.eager_block import EagerBlock
from rlsched.envs.tasks.task import Task
from rlsched.envs.torch_run import TorchRun


@dataclass(frozen=True, eq=False)
class Recorded:
    """A run, and what was measured on the way.

    Attributes:
        driven: the run.
        lr: (T,) learning rate of each step that was done, of the first parameter group.
        windows: telemetry of each of its windows, as far as it was asked for.
    """

    driven: Driven
    lr: Array
    windows: tuple[Window, ...]


def train(task: Task, controller: Controller, seed: int) -> Driven:
    """Train on `task` as `controller` decides; validation losses are reported to it if the task says so."""
    return record(task, controller, seed).driven


def record(task: Task, controller: Controller, seed: int, reads: frozenset[str] = frozenset()) -> Recorded:
    """`train`, with the telemetry of each window: that which the controller reads, and `reads`."""
    run = TorchRun(task, controller.reads | reads)
    run.reset(seed)
    base_lr = float(run.spec.base_lr[0, 0])
    notes, windows, rates = Record(), list[Window](), list[Array]()

    def watch(window: Window, decision: Decision, alive: Array) -> Window:
        done = int(window.step[0]) - sum(map(len, rates))
        loss = run.validation_loss() if alive[0] else np.inf
        rates.append(base_lr * decision.lr_scale[0, :done])
        sound = notes.window(int(window.step[0]), float(rates[-1][0]), loss)
        windows.append(
            window.replace(validation_loss=np.array([loss if sound and task.config.feedback else np.nan]))
        )
        return windows[-1]

    final = drive(EagerBlock([run]), controller, watch)[0]
    driven = notes.driven(run.test_loss() if np.isfinite(final) else np.inf, run.counters()[0])
    return Recorded(driven, np.concatenate(rates), tuple(windows))


def seeds(seed: int, count: int) -> list[int]:
    """Seeds of `count` runs that follow from `seed`; that of the first, the one that is the result, is `seed`."""
    others = np.random.SeedSequence(seed).generate_state(count, np.uint64)[1:] >> np.uint64(1)
    return [seed, *map(int, others)]
