"""A run under the schedule that a law of loss curves finds best."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.controllers.schedules import Constant, Cosine, OpenLoop
from rlsched.controllers.schedules.open_loop import check_schedule
from rlsched.envs.drivers.driver import Driven
from rlsched.envs.drivers.plain import Recorded, record, seeds
from rlsched.envs.tasks.task import Task
from rlsched.laws.law import LossCurve, LossCurveLaw
from rlsched.laws.multi_power import MultiPowerLaw


@dataclass(frozen=True)
class LawOptimised:
    """A run under each of `parents`, then one under the schedule that a law fitted to them predicts to be best.

    Source: Luo et al. 2025, A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules,
        arXiv:2503.12811; with `AnnealingLaw`, Tissue et al. 2024, arXiv:2408.11029.
    Deviation: fitted to validation losses, which are measured at decisions: some tens of points a run.

    Attributes:
        law: `MultiPowerLaw` or `AnnealingLaw`.
        parents: schedules of the runs that it is fitted to, at least two.
        skip: share of each of them, from its start, that is left out of the fit, in [0, 0.9].

    >>> LawOptimised().law.__name__
    'MultiPowerLaw'
    """

    law: type[LossCurveLaw] = MultiPowerLaw
    parents: tuple[OpenLoop, ...] = (Constant(), Cosine())
    skip: float = 0.1

    def __post_init__(self) -> None:
        if not (isinstance(self.law, type) and hasattr(self.law, "fit") and hasattr(self.law, "optimise")):
            raise TypeError(f"law must be a LossCurveLaw, got {self.law!r}: give for example MultiPowerLaw.")
        if len(self.parents) < 2:
            raise _check.ArgumentError(
                f"parents must be at least two schedules, got {len(self.parents)}: one alone does not tell what "
                "falls of the learning rate bring."
            )
        for parent in self.parents:
            check_schedule("parents", parent)
        _check.real("skip", self.skip, 0.0, 0.9)

    def run(self, task: Task, seed: int) -> Driven:
        """See `Driver`. Parents have seeds of their own. One that fails ends it, and is the result."""
        last, *others = seeds(seed, 1 + len(self.parents))
        curves, spent = [], 0
        for parent, each in zip(self.parents, others, strict=True):
            found = record(task, parent, each)
            spent += found.driven.spent
            if not np.isfinite(found.driven.validation).all():
                return dataclasses.replace(found.driven, spent=spent)
            curves.append(loss_curve(found, self.skip))
        base_lr = float(found.windows[0].spec.base_lr[0, 0])
        schedule = self.law.fit(curves).optimise(task.config.num_steps, base_lr)
        final = record(task, schedule, last).driven
        return dataclasses.replace(final, spent=spent + final.spent)


def loss_curve(found: Recorded, skip: float = 0.1) -> LossCurve:
    """The validation losses of a run, without those in its first `skip`, for a law."""
    driven = found.driven
    late = driven.steps > skip * driven.steps[-1]
    return LossCurve(found.lr, driven.steps[late], driven.validation[late])
