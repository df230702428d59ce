"""A run at a learning rate that was tuned for a shorter run, or for another schedule."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from rlsched import _check
from rlsched.controllers.schedules import Linear, OpenLoop
from rlsched.controllers.schedules.open_loop import check_schedule
from rlsched.envs.drivers.driver import Driven
from rlsched.envs.drivers.plain import seeds, train
from rlsched.envs.tasks.task import Task
from rlsched.laws.convex_bound import ConvexBound
from rlsched.laws.token_horizon import TokenHorizon, lowest_point


@dataclass(frozen=True)
class TransferredLR:
    """Tunes the base learning rate in short runs, under any schedule, and transfers it to the whole run.

    The best of a grid, by a parabola in ln(lr), is multiplied by what `ConvexBound` says of the two schedules and
    the two horizons; or of the schedules alone, and by the power law `TokenHorizon` of the horizons.

    Source: Schaipp et al. 2025, The Surprising Agreement Between Convex Optimization Theory and Learning-Rate
        Scheduling for Large Model Training, arXiv:2501.18965; Bjorck et al. 2024, Scaling Optimal LR Across Token
        Horizons, arXiv:2409.19913.

    Attributes:
        target: schedule of the whole run.
        tuned: schedule of the short ones.
        share: length of the short runs as a share of the whole, in (0, 1].
        factors: of the base learning rate that are tried, positive and increasing, at least one.
        exponent: of `TokenHorizon`, or None for `ConvexBound`, by which it is about 1/2.

    >>> TransferredLR(share=0.25, exponent=0.32).target
    Linear()
    """

    target: OpenLoop = field(default_factory=Linear)
    tuned: OpenLoop = field(default_factory=Linear)
    share: float = 0.25
    factors: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    exponent: float | None = None

    def __post_init__(self) -> None:
        check_schedule("target", self.target)
        check_schedule("tuned", self.tuned)
        _check.real("share", self.share, 1e-6, 1.0)
        factors = _check.vector("factors", self.factors)
        if (factors <= 0).any() or (np.diff(factors) <= 0).any():
            raise _check.ArgumentError(f"factors must be positive and increasing, got {self.factors}.")
        if self.exponent is not None:
            TokenHorizon(self.exponent)

    def run(self, task: Task, seed: int) -> Driven:
        """See `Driver`. Each short run has a seed of its own. If all of them fail, the last is the result."""
        last, *others = seeds(seed, 1 + len(self.factors))
        short = shortened(task, self.share)
        base, losses, spent = task.config.base_lr, [], 0
        for factor, each in zip(self.factors, others, strict=True):
            tried = train(short.with_base_lr(factor * base), self.tuned, each)
            losses.append(tried.validation[-1])
            spent += tried.spent
        if not np.isfinite(losses).any():
            return dataclasses.replace(tried, spent=spent)
        best = base * lowest_point(self.factors, losses)
        lr = self.transferred(best, short.config.num_steps, task.config.num_steps)
        final = train(task.with_base_lr(lr), self.target, last)
        return dataclasses.replace(final, spent=spent + final.spent)

    def transferred(self, lr: float, tuned_steps: int, target_steps: int) -> float:
        """The learning rate of the whole run, from the best of the short ones."""
        if self.exponent is None:
            return ConvexBound().transfer(lr, self.tuned, tuned_steps, self.target, target_steps)
        scheduled = ConvexBound().transfer(lr, self.tuned, tuned_steps, self.target, tuned_steps)
        return TokenHorizon(self.exponent).transfer(scheduled, tuned_steps, target_steps)


def shortened(task: Task, share: float) -> Task:
    """The same task in a run of a share of its steps, with as many decisions if they fit."""
    num_steps = max(2, round(share * task.config.num_steps))
    config = dataclasses.replace(
        task.config, num_steps=num_steps, num_decisions=min(task.config.num_decisions, num_steps - 1)
    )
    return dataclasses.replace(task, config=config, drift_until=round(share * task.drift_until))
