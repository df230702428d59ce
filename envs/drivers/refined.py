"""A run under the schedule refined from runs before it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from rlsched import _check
from rlsched.controllers.schedules import Linear, OpenLoop
from rlsched.controllers.schedules.open_loop import check_schedule
from rlsched.envs.drivers.driver import Driven
from rlsched.envs.drivers.plain import Recorded, record, seeds
from rlsched.envs.tasks.task import Task
from rlsched.laws.refinement import Refinement


@dataclass(frozen=True)
class Refined:
    """A run under `parent`, then one under the schedule that its gradient norms give, see `Refinement`.

    Source: Defazio et al. 2023, When, Why and How Much? Adaptive Learning Rate Scheduling by Refinement,
        arXiv:2310.07831.
    Deviation: the peak learning rate is the parent's; the paper tunes it again.

    Attributes:
        parent: schedule of the first run.
        rounds: refinements, each of the run before, at least 1.
        filter_share: see `Refinement`.

    >>> Refined(rounds=2).parent
    Linear()
    """

    parent: OpenLoop = field(default_factory=Linear)
    rounds: int = 1
    filter_share: float = 0.1

    def __post_init__(self) -> None:
        check_schedule("parent", self.parent)
        _check.integer("rounds", self.rounds, 1)
        _check.real("filter_share", self.filter_share, 0.0, 1.0)

    def run(self, task: Task, seed: int) -> Driven:
        """See `Driver`. Earlier runs have seeds of their own. A run that fails ends it, and is the result."""
        schedule, spent = self.parent, 0
        for each in reversed(seeds(seed, self.rounds + 1)):
            last = record(task, schedule, each, reads=frozenset({"grad_norm"}))
            spent += last.driven.spent
            if not np.isfinite(last.driven.validation[-1]):
                break
            schedule = refined(last, self.filter_share)
        return dataclasses.replace(last.driven, spent=spent)


def refined(last: Recorded, filter_share: float = 0.1) -> OpenLoop:
    """The schedule for the next run, from the gradient norms in the windows of the last."""
    adaptive = bool(last.windows[0].spec.adaptive[0])
    norm = np.array([window.grad_norm[0] for window in last.windows])
    measured = np.isfinite(norm) & (norm > 0)
    refinement = Refinement(1.0 if adaptive else 2.0, filter_share)
    return refinement.schedule(norm[measured], last.driven.steps[measured], int(last.driven.steps[-1]))
