"""What the rest of a run would bring at other learning rates, tried from states that a policy comes to.

The warm start imitates the learning rate that is best for a task as a whole. Here every state has an answer of its
own: the run is copied as it stands there, and each copy decays linearly to zero from another learning rate. So it
can be learnt that a run which overfits has to slow down, whatever was best for it before. This is how rollouts
improve a base policy (Bertsekas, Tsitsiklis and Wu 1997, Rollout Algorithms for Combinatorial Optimization), in
states of the student's own (DAgger, Ross et al. 2011, arXiv:1011.0686).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlsched.action import ActionSpec
from rlsched.agents.imitation.search import WORST, draw_group
from rlsched.agents.rollouts.job import Setting, Weights
from rlsched.contract import Array, RunSpec
from rlsched.envs.episodes import Episodes
from rlsched.envs.population import Population
from rlsched.observation import RUN_FEATURES
from rlsched.policy.network import mean_action

OFFSETS = (-1.4, -0.7, -0.35, 0.0, 0.35, 0.7)
"""Decades between the learning rate of a state and those that are tried from there."""
EARLY, LATEST = 4, 0.85
"""One of the first four decisions is looked into, and others until this share of the run."""
_LOG_SCALE = [feature.name for feature in RUN_FEATURES].index("log_scale")


@dataclass(frozen=True, eq=False)
class Branches:
    """n states of training runs.

    Attributes:
        observations: (n, F + K * B) float32.
        regret: (n, O) float32, how much higher ln(validation loss) ends for each of `OFFSETS` than for the best.
    """

    observations: Array
    regret: Array

    @classmethod
    def join(cls, parts: Sequence[Branches]) -> Branches:
        """All states."""
        fields = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


@dataclass(frozen=True)
class BranchUnit:
    """Runs of some tasks under the student, and what is tried at some of their decisions.

    Tries draw the same examples, and keep the bucket weights that the student gave at the decision. Buckets that
    follow the run stay as they are there.

    Attributes:
        seed: of the tasks and their runs; even, as all of training's.
        tasks: how many, computed together.
        points: decisions at which is tried.
    """

    seed: int
    tasks: int
    points: int

    def run(self, setting: Setting, weights: Weights) -> Branches:
        """What came of it for the student in `weights`, which explores by its `log_std`."""
        configs, seeds = draw_group(setting.tasks, self.seed, self.tasks)
        rng = np.random.default_rng([self.seed, 1])
        tasks = [setting.tasks.build(config) for config in configs]
        runs, tries = setting.population(tasks), setting.population([task for task in tasks for _ in OFFSETS])
        runs.reset(seeds)
        tries.reset(np.repeat(seeds, len(OFFSETS)).tolist())
        # A kind of network of which there are few is stacked only with its copies, and its state another one.
        alike = np.array(runs.paths) == np.array(tries.paths)[:: len(OFFSETS)]
        episodes, std = Episodes(runs, tasks, setting.interface), np.exp(weights["log_std"])
        chosen, number = choose(runs.spec, self.points, rng), 0
        seen, _ = episodes.begin()
        nothing = np.zeros((0, len(OFFSETS)))  # a task may end in its opening
        observations, regret = [seen[:0]], [nothing]
        while episodes.alive.any():
            number += 1
            mean = mean_action(weights, seen)
            if number in chosen:
                alive = np.flatnonzero(episodes.alive & alike)
                decision = episodes.decide(mean)
                scale = rest_of_run(runs.spec, number, seen[:, _LOG_SCALE], setting.interface.action)
                losses = try_out(runs, tries, alive, scale, decision.bucket_weights)
                observations.append(seen[alive])
                regret.append(np.minimum(losses - losses.min(axis=1, keepdims=True), WORST))
            actions = np.clip(mean + std * rng.standard_normal(mean.shape), -1.0, 1.0)
            seen, _, _, _ = episodes.step(actions)
        return Branches(np.concatenate(observations).astype(np.float32), np.concatenate(regret).astype(np.float32))


def choose(spec: RunSpec, points: int, rng: np.random.Generator) -> set[int]:
    """Numbers, from 1, of `points` decisions of runs that decide at the same steps: an early one, and others."""
    due = spec.decision_steps[0] < LATEST * spec.num_steps[0]
    numbers = np.flatnonzero(due) + 1
    early, later = numbers[numbers <= EARLY], numbers[numbers > EARLY]
    count = min(points - 1, len(later))
    return {*rng.choice(early, 1).tolist(), *rng.choice(later, count, replace=False).tolist()}


def rest_of_run(spec: RunSpec, number: int, log_scale: Array, action: ActionSpec) -> Array:
    """(R, O, n) multipliers of the n steps from decision `number` on, at each of `OFFSETS` from `log_scale` (R,).

    What the action decoding does after a move of that size, if nothing but zero actions follow.
    """
    steps = np.arange(spec.decision_steps[0, number - 1], spec.num_steps[0])
    index = np.searchsorted(spec.decision_steps[0], steps, side="right")
    progress = steps / spec.num_steps[0]
    decay = (1.0 - progress) * action.settled(progress) * 10.0 ** -action.warmup(spec.num_decisions[:1], index)
    tried = np.clip(log_scale[:, None] + np.array(OFFSETS), -action.max_log_scale, action.max_log_scale)
    return np.asarray(10.0 ** tried[:, :, None] * decay)


def try_out(runs: Population, tries: Population, rows: Array, scale: Array, bucket_weights: Array) -> Array:
    """(len(rows), O) ln(validation loss) at the end, from where `rows` of `runs` stand.

    Args:
        runs: R runs, which stay as they are.
        tries: R * O rows for copies of them, those of a run side by side.
        rows: of `runs`.
        scale: (R, O, n) multipliers of the learning rate in the n steps to the end.
        bucket_weights: (R, K).
    """
    count, steps = scale.shape[1:]
    copies = (rows[:, None] * count + np.arange(count)).ravel()
    for row in rows:
        state = runs.row_state(int(row))
        for copy in range(int(row) * count, (int(row) + 1) * count):
            tries.load_row_state(copy, state)
    n_steps = np.zeros(len(scale) * count, dtype=int)
    n_steps[copies] = steps
    window = tries.advance(n_steps, scale.reshape(-1, steps), np.repeat(bucket_weights, count, axis=0))
    loss = tries.validation_loss()
    sound = (window.nonfinite == 0) & np.isfinite(loss)
    return np.log(np.where(sound, np.clip(loss, 1e-12, 1e12), 1e12))[copies].reshape(len(rows), count)
