"""WSD-S: results at several budgets from one run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rlsched import _check
from rlsched.contract import Array, Decision, Window
from rlsched.controllers.schedules.open_loop import OpenLoop, check_schedule
from rlsched.controllers.schedules.phases import phase
from rlsched.envs.drive import drive
from rlsched.envs.drivers.driver import Driven
from rlsched.envs.drivers.record import Record
from rlsched.envs.population.eager_block import EagerBlock
from rlsched.envs.tasks.task import Task
from rlsched.envs.torch_run import TorchRun


@dataclass(frozen=True)
class StableDecay(OpenLoop):
    """Constant, then decay of the reciprocal over the last `cooldown` of the run, `1 / (q / floor + 1 - q)`.

    q rises from 0 to 1 over the decay.

    Source: Wen et al. 2024, Understanding Warmup-Stable-Decay Learning Rates: A River Valley Loss Landscape
        Perspective, arXiv:2410.05192.

    Attributes:
        cooldown: share of the run, in (0, 1].
        floor: the last multiplier, in (0, 1].

    >>> StableDecay(0.2).profile(np.array([0.0, 0.8, 0.9, 1.0])).round(6).tolist()
    [1.0, 1.0, 0.181818, 0.1]
    """

    cooldown: float = 0.1
    floor: float = 0.1

    def __post_init__(self) -> None:
        _check.real("cooldown", self.cooldown, 1e-6, 1.0)
        _check.real("floor", self.floor, 1e-6, 1.0)

    def profile(self, progress: Array) -> Array:
        decayed = phase(progress, 1.0 - self.cooldown, 1.0)
        return np.asarray(1.0 / (decayed / self.floor + 1.0 - decayed))


@dataclass(frozen=True)
class Legs(OpenLoop):
    """A schedule run through once for each leg of the run.

    Attributes:
        ends: progress at which each leg ends, increasing, the last 1.
        schedule: of a leg.

    >>> from rlsched import Linear
    >>> Legs((0.5, 1.0), Linear()).profile(np.array([0.0, 0.25, 0.5, 0.75, 1.0])).tolist()
    [1.0, 0.5, 1.0, 0.5, 0.0]
    """

    ends: tuple[float, ...]
    schedule: OpenLoop

    def profile(self, progress: Array) -> Array:
        ends = np.array(self.ends)
        starts = np.append(0.0, ends[:-1])
        leg = np.minimum(np.searchsorted(ends, progress, side="right"), len(ends) - 1)
        return self.schedule.profile((progress - starts[leg]) / (ends[leg] - starts[leg]))


@dataclass(frozen=True)
class WSDS:
    """One branch with a decay before every budget, resumed at the full learning rate from the decayed checkpoint.

    Plain WSD keeps the undecayed run going beside the decays, and throws their steps away. Here the result at each
    budget is a checkpoint of one and the same run, which ends a window there; `results` reads them off. In the
    decay before a budget, of which a share q is done, the multiplier of the learning rate is

        1 / (q / floor + 1 - q)

    Source: Wen et al. 2024, Understanding Warmup-Stable-Decay Learning Rates: A River Valley Loss Landscape
        Perspective, arXiv:2410.05192.
    Deviation: without the warm-up. A decay takes a share of its leg, the stretch since the last budget, as in the
        authors' framework (Levanter); the paper's text was not at hand.

    Attributes:
        budgets: shares of the run, increasing, the last 1.
        schedule: of a leg; by default the paper's, a decay of the reciprocal to ten over the last tenth.
    """

    budgets: Sequence[float] = (0.25, 0.5, 1.0)
    schedule: OpenLoop = field(default_factory=StableDecay)

    def __post_init__(self) -> None:
        budgets = _check.vector("budgets", self.budgets)
        if budgets[0] <= 0 or (np.diff(budgets) <= 0).any() or budgets[-1] != 1.0:
            raise _check.ArgumentError(
                f"budgets must be increasing shares of the run in (0, 1], got {budgets.tolist()}: end with 1."
            )
        check_schedule("schedule", self.schedule)
        object.__setattr__(self, "budgets", tuple(budgets.tolist()))

    def run(self, task: Task, seed: int) -> Driven:
        """See `Driver`."""
        run, record = TorchRun(task, reads=frozenset()), Record()
        run.reset(seed)
        total = task.config.num_steps
        ends = self._steps(total)
        # Windows end at budgets too, for the results to be those of the checkpoints.
        decisions = np.union1d(run.spec.decision_steps[0], ends[:-1])
        run.spec = dataclasses.replace(run.spec, decision_steps=decisions[None])
        base_lr = float(run.spec.base_lr[0, 0])

        def watch(window: Window, decision: Decision, alive: Array) -> Window:
            loss = run.validation_loss() if alive[0] else np.inf
            record.window(int(window.step[0]), base_lr * float(decision.lr_scale[0, 0]), loss)
            return window

        drive(EagerBlock([run]), Legs(tuple(ends / total), self.schedule), watch)
        return record.driven(run.test_loss(), run.counters()[0])

    def results(self, driven: Driven, num_steps: int) -> Array:
        """(B,) validation loss at each budget of what `run` gave for `num_steps`; inf from where it failed."""
        losses = dict(zip(driven.steps.tolist(), driven.validation.tolist(), strict=True))
        return np.array([losses.get(step, np.inf) for step in self._steps(num_steps).tolist()])

    def _steps(self, total: int) -> Array:
        """(B,) the step at which each budget ends."""
        ends = np.round(np.array(self.budgets) * total).astype(int)
        if ends[0] < 1 or (np.diff(ends) < 1).any():
            raise _check.ArgumentError(
                f"budgets must lie at least a step apart, got {list(self.budgets)} of {total} steps: give fewer."
            )
        return ends
