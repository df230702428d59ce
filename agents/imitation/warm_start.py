"""The warm start: imitation of tuned schedules, before PPO."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import smooth_l1_loss

from rlsched import _check
from rlsched.action import ActionSpec
from rlsched.agents.imitation.followed import parse
from rlsched.agents.imitation.lesson import Lesson, LessonUnit
from rlsched.agents.imitation.search import GRID, SearchUnit, TunedGroup
from rlsched.agents.network import BucketEquivariantPolicy
from rlsched.agents.rollouts import unit_seed
from rlsched.contract import Array

# Beyond any iteration of PPO, so that no unit of the two shares a seed.
_SEARCHES, _LESSONS = 2**30, 2**31


@dataclass(frozen=True)
class WarmStart:
    """Settings of the imitation.

    Every round has tasks of its own: what a policy learns from a search it learns in a few episodes, and then
    other tasks teach it more than more episodes do.

    Attributes:
        groups: of tasks that are tuned in each round, each computed together; 0 for no warm start.
        group_tasks: tasks in each.
        rounds: of new tasks and lessons on them, after each of which the policy is fitted to all lessons so far.
        copies: episodes of each tuned task.
        buckets: whether curricula are searched for and imitated too, or the natural mixture.
        followed: curricula that follow the run, to be tried on every task beside the fixed ones: names of classes
            in rlsched.controllers.curriculum, separated by commas, such as "CurES,PCL".
        epochs: passes over the lessons in a fit.
        minibatch: states per gradient step.
        learning_rate: of Adam at the start of a fit, falling linearly to zero.
        regret: weight of what a move would cost, in nats of final loss, in the error that is minimised.
        distance: weight of the Huber distance of a move from that to the tuned learning rate.
    """

    groups: int = 32
    group_tasks: int = 8
    rounds: int = 4
    copies: int = 2
    buckets: bool = True
    followed: str = ""
    epochs: int = 3
    minibatch: int = 1024
    learning_rate: float = 3e-3
    regret: float = 1.0
    distance: float = 0.2

    def __post_init__(self) -> None:
        _check.integer("groups", self.groups, 0)
        for name in ("group_tasks", "rounds", "copies", "epochs", "minibatch"):
            _check.integer(name, getattr(self, name), 1)
        parse(self.followed)
        for name in ("learning_rate", "regret", "distance"):
            _check.real(name, getattr(self, name), 0.0, 1000.0)

    def searches(self, seed: int, number: int) -> list[SearchUnit]:
        """The units that tune the tasks of round `number`, in a training of `seed`."""
        return [
            SearchUnit(
                unit_seed(seed, _SEARCHES + number, index), self.group_tasks, self.buckets, parse(self.followed)
            )
            for index in range(self.groups)
        ]

    def lessons(self, seed: int, number: int, tuned: list[TunedGroup], gamma: float = 1.0) -> list[LessonUnit]:
        """The units that teach the tasks `tuned` for round `number`.

        The teacher acts in all episodes of the first, then ever more rarely.
        """
        return [
            LessonUnit(
                unit_seed(seed, _LESSONS + number, index),
                group,
                self.copies,
                gamma=gamma,
                taught=1.0 if number == 0 else 0.5**number if number < self.rounds - 1 else 0.0,
            )
            for index, group in enumerate(tuned)
        ]


def fit(
    policy: BucketEquivariantPolicy,
    lessons: list[Lesson],
    config: WarmStart,
    action: ActionSpec,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Fit the actor to all `lessons` and the critic to the last, in place; the mean errors of the last epoch.

    The critic learns what the present student gets, and so from its latest episodes alone.
    """
    every, latest = Lesson.join(lessons), lessons[-1]
    policy.mlp_extractor.normalizer.update(torch.as_tensor(latest.observations))
    actor = list(policy.mlp_extractor.actor.parameters())
    optimizer = torch.optim.Adam(
        [*actor, *policy.mlp_extractor.critic.parameters(), *policy.value_net.parameters()]
    )
    steps = -(-len(every.returns) // config.minibatch)
    totals = np.zeros(3)
    for epoch in range(config.epochs):
        order = rng.permutation(len(every.returns))
        totals[:] = 0.0
        for step in range(steps):
            done = (epoch * steps + step) / (config.epochs * steps)
            optimizer.param_groups[0]["lr"] = config.learning_rate * (1.0 - done)
            rows = order[step * config.minibatch : (step + 1) * config.minibatch]
            move, buckets = _actor_errors(policy, every, rows, config, action)
            value = _critic_error(policy, latest, rng.integers(len(latest.returns), size=len(rows)))
            optimizer.zero_grad()
            (move + buckets + 0.5 * value).backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            totals += [float(move.detach()), float(buckets.detach()), float(value.detach())]
    return dict(zip(("move_error", "bucket_error", "value_error"), (totals / steps).tolist(), strict=True))


def _actor_errors(
    policy: BucketEquivariantPolicy, lesson: Lesson, rows: Array, config: WarmStart, action: ActionSpec
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the moves would cost, and Huber errors of the bucket logits where there are any; means over actors.

    The cost of a move is the regret of the learning rate it leads to, so that a policy that cannot tell errs to
    the harmless side; a Huber error of the move is added, as regret is flat far from the optimum.
    """
    seen, targets = torch.as_tensor(lesson.observations[rows]), torch.as_tensor(lesson.targets[rows])
    network = policy.mlp_extractor
    # (M, n, 1 + K): every member of the ensemble learns by itself, or they would not differ where it matters.
    actions = network.actor.each(*network.normalizer(seen))
    errors = smooth_l1_loss(actions, targets.expand_as(actions), reduction="none", beta=0.5)
    positions = torch.as_tensor(lesson.positions[rows]) + action.max_move * actions[..., 0].clamp(-1.0, 1.0)
    known = torch.as_tensor(lesson.regret[rows]).repeat(len(actions), 1)
    regret = _interpolate(known, positions.flatten())
    steered = torch.as_tensor(lesson.steered[rows])
    buckets = errors[:, steered, 1:].sum() / max(errors[..., 0].numel(), 1)
    # Where a move is cut off, regret has no slope: without this, it would never come back.
    overshoot = (actions[..., 0].abs() - 1.0).clamp(min=0.0)
    move = config.regret * regret.mean() + config.distance * errors[..., 0].mean() + overshoot.mean()
    return move, buckets


def _interpolate(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """(n,) of `values` (n, G) on `GRID` at `positions` (n,), between its points by lines, beyond its ends flat."""
    place = ((positions - GRID[0]) / (GRID[1] - GRID[0])).clamp(0.0, len(GRID) - 1.0)
    below = place.detach().floor().long().clamp(max=len(GRID) - 2)
    share = place - below
    low, high = (values.gather(1, index[:, None])[:, 0] for index in (below, below + 1))
    return low + share * (high - low)


def _critic_error(policy: BucketEquivariantPolicy, lesson: Lesson, rows: Array) -> torch.Tensor:
    inputs = np.concatenate([lesson.observations[rows], lesson.facts[rows]], axis=1)
    values = policy.predict_values(torch.as_tensor(inputs))[:, 0]
    return smooth_l1_loss(values, torch.as_tensor(lesson.returns[rows]))
