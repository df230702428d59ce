"""Lessons: states that the student itself comes to, with what it should have done there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium.utils import seeding

from rlsched.action import ActionSpec
from rlsched.agents.imitation.followed import POINTS
from rlsched.agents.imitation.search import TunedGroup, draw_group
from rlsched.agents.privileged import facts
from rlsched.agents.rollouts.job import Setting, Weights
from rlsched.contract import Array
from rlsched.controllers.curriculum.fixed import curricula
from rlsched.envs.episodes import Episodes
from rlsched.envs.tasks import TaskConfig
from rlsched.observation import RUN_FEATURES
from rlsched.policy.network import mean_action

_INDEX = {feature.name: index for index, feature in enumerate(RUN_FEATURES)}


@dataclass(frozen=True, eq=False)
class Lesson:
    """n states of training runs.

    Attributes:
        observations: (n, F + K * B) float32.
        facts: (n, P) float32, see `agents.privileged`.
        targets: (n, 1 + K) float32, the actions to imitate, in [-1, 1].
        positions: (n,) float32, decades from the task's sensible learning rate to that of linear decay from here.
        regret: (n, G) float32, what final loss each learning rate of `search.GRID` about the sensible one costs.
        steered: (n,) whether bucket weights act in the state.
        returns: (n,) float32, what the rest of the episode brought, discounted.
    """

    observations: Array
    facts: Array
    targets: Array
    positions: Array
    regret: Array
    steered: Array
    returns: Array

    @classmethod
    def join(cls, lessons: Sequence[Lesson]) -> Lesson:
        """All states."""
        return cls(*(np.concatenate(parts) for parts in zip(*map(_fields, lessons), strict=True)))


@dataclass(frozen=True)
class LessonUnit:
    """Episodes on tuned tasks, from base learning rates as misjudged as any.

    The student acts, with its exploration noise, so that it is taught in the states it will come to (DAgger,
    Ross et al. 2011, arXiv:1011.0686); in a share of the episodes the teacher acts.

    Attributes:
        seed: of the episodes; even, as all of training's.
        group: the tasks, with their tuned schedules.
        copies: episodes of each.
        taught: share of the episodes in which the teacher acts, in [0, 1].
        gamma: discount per decision of the returns, in [0, 1].
    """

    seed: int
    group: TunedGroup
    copies: int
    taught: float
    gamma: float = 1.0

    def run(self, setting: Setting, weights: Weights) -> Lesson:
        """The lesson of the student in `weights`."""
        rng = seeding.np_random(self.seed)[0]
        known, _ = draw_group(setting.tasks, self.group.seed, len(self.group.log_lr))
        configs = [self._misjudged(setting, rng, config) for config in known for _ in range(self.copies)]
        tasks = [setting.tasks.build(config) for config in configs]
        population = setting.population(tasks)
        population.reset([int(seed) for seed in rng.integers(2**31, size=len(tasks))])
        episodes = Episodes(population, tasks, setting.interface)
        teacher = _Teacher(self.group, self.copies, configs, setting.interface.action)
        by_teacher = rng.random(len(tasks)) < self.taught
        std = np.exp(weights["log_std"])

        observations, targets, rewards, going = [], [], [], []
        seen, _ = episodes.begin()
        while episodes.alive.any():
            target = teacher.act(seen)
            mean = np.where(by_teacher[:, None], target, mean_action(weights, seen))
            actions = np.clip(mean + std * rng.standard_normal(mean.shape), -1.0, 1.0)
            observations.append(seen)
            targets.append(target)
            going.append(episodes.alive)
            seen, reward, _, _ = episodes.step(actions)
            rewards.append(np.where(going[-1], reward, 0.0))
        alive = np.stack(going)
        to_go = np.stack(rewards)
        for step in range(len(to_go) - 2, -1, -1):
            to_go[step] += self.gamma * to_go[step + 1]
        states = np.stack(observations)[alive]
        sensible = np.log10([setting.tasks.sensible_lr(config) for config in configs])
        offsets = np.log10([config.base_lr for config in configs]) - sensible
        regret = np.repeat(self.group.regret, self.copies, axis=0)
        told = np.stack([facts(config) for config in configs])
        return Lesson(
            observations=states.astype(np.float32),
            facts=np.broadcast_to(told, (len(alive), *told.shape))[alive],
            targets=np.stack(targets)[alive].astype(np.float32),
            positions=(offsets + np.stack(observations)[:, :, _INDEX["log_scale"]])[alive].astype(np.float32),
            regret=np.broadcast_to(regret, (len(alive), *regret.shape))[alive].astype(np.float32),
            steered=states[:, _INDEX["curriculum"]] > 0.5,
            returns=to_go[alive].astype(np.float32),
        )

    def _misjudged(self, setting: Setting, rng: np.random.Generator, config: TaskConfig) -> TaskConfig:
        """The same task as another user would have come with it."""
        other = setting.tasks.sample_like(rng, config)
        return dataclasses.replace(
            config, base_lr=other.base_lr, feedback=other.feedback, batch_size_known=other.batch_size_known
        )


class _Teacher:
    """Goes to the tuned learning rate as fast as actions allow, and weighs buckets as the best curricula do."""

    def __init__(self, group: TunedGroup, copies: int, configs: Sequence[TaskConfig], action: ActionSpec) -> None:
        self._action = action
        log_base = np.log10([config.base_lr for config in configs])
        self._log_scale = np.repeat(group.log_lr, copies) - log_base
        self._likely = np.repeat(group.curricula, copies, axis=0)
        self._curricula = curricula(configs[0].num_buckets)
        self._followed = np.repeat(group.followed, copies, axis=0)

    def act(self, seen: Array) -> Array:
        """Actions (R, 1 + K) in [-1, 1] for observations (R, F + K * B)."""
        move = (self._log_scale - seen[:, _INDEX["log_scale"]]) / self._action.max_move
        progress = seen[:, _INDEX["progress"]]
        logits = np.stack([each.logits(progress) for each in self._curricula], axis=1)
        if self._followed.size:
            # In single precision, 0.15 is a little less than three twentieths.
            point = np.clip((progress * POINTS + 1e-4).astype(int), 0, POINTS - 1)
            at_point = self._followed[np.arange(len(seen)), :, point]
            logits = np.concatenate([logits, at_point], axis=1)
        mixed = (self._likely[:, :, None] * logits).sum(axis=1) / self._action.max_logit
        return np.clip(np.concatenate([move[:, None], mixed], axis=1), -1.0, 1.0)


def _fields(lesson: Lesson) -> tuple[Array, ...]:
    return tuple(getattr(lesson, field.name) for field in dataclasses.fields(lesson))
