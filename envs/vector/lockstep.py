"""Episodes that begin and end together: the core of the vectorised environments."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsched.contract import Array, Window
from rlsched.envs.population import Population
from rlsched.envs.reward import relative_log_loss
from rlsched.envs.tasks import TaskConfig, TaskFamily
from rlsched.policy import PolicyInterface


@dataclass(eq=False)
class Transition:
    """What a step of R slots gave.

    Attributes:
        observations: (R, F + K * B) to act on next; of the new episode where one has begun.
        rewards: (R,).
        terminated: (R,) whether the slot's episode ended with this step.
        final: (R, F + K * B) the observation that this step itself led to.
        infos: (R,) dictionaries, as `TrainingScheduleEnv` gives them.
    """

    observations: Array
    rewards: Array
    terminated: Array
    final: Array
    infos: list[dict[str, Any]]


@dataclass(eq=False)
class _Cohort:
    """Runs that began together: which slots they fill, and where they stand."""

    slots: Array
    population: Population
    configs: list[TaskConfig]
    state: Any
    window: Window
    first_loss: Array
    last_log_loss: Array
    alive: Array


class Lockstep:
    """R slots whose episodes begin and end together, so that they are computed together.

    From one `reset` to the next, all episodes have the numbers of steps and decisions of the task sampled for
    the first slot: then no row waits for another. Otherwise every slot's tasks and seeds follow from its own
    generator, and its episodes are those of a `TrainingScheduleEnv` with the same generator and numbers. A run
    that diverges is replaced at once by a new one with as many decisions as its round has left.

    Args:
        tasks: the family that tasks are drawn from.
        interface: observation and action decoding.
        num_slots: R.
    """

    def __init__(self, tasks: TaskFamily, interface: PolicyInterface, num_slots: int) -> None:
        self._tasks, self._interface, self._num_slots = tasks, interface, num_slots
        self._rngs: list[np.random.Generator] = []
        self._cohorts: list[_Cohort] = []

    def reset(self, rngs: Sequence[np.random.Generator]) -> tuple[Array, list[dict[str, Any]]]:
        """Begin a round in which slot i draws from `rngs[i]`; the observations and infos of the slots."""
        self._rngs = list(rngs)
        drawn = [self._draw(slot) for slot in range(self._num_slots)]
        self._num_steps, self._num_decisions = drawn[0][0].num_steps, drawn[0][0].num_decisions
        return self._new_round(drawn)

    def step(self, actions: Array) -> Transition:
        """Decide with `actions` (R, 1 + K), train to the next decision, observe; begin anew what has ended."""
        runs = self._num_slots
        rewards, terminated = np.zeros(runs), np.zeros(runs, dtype=bool)
        final: list[Array] = [np.zeros(0)] * runs
        infos: list[dict[str, Any]] = [{}] * runs
        for cohort in self._cohorts:
            for slot, seen, reward, over, info in self._step_cohort(cohort, actions):
                final[slot], rewards[slot], terminated[slot], infos[slot] = seen, reward, over, info
        self._left -= 1
        observations = np.stack(final)
        transition = Transition(observations.copy(), rewards, terminated, observations, infos)
        if self._left == 0:
            drawn = [self._draw(slot) for slot in range(self._num_slots)]
            transition.observations, _ = self._new_round(drawn)
        elif terminated.any():
            slots = np.flatnonzero(terminated)
            transition.observations[slots], _ = self._begin(slots, [self._draw(int(slot)) for slot in slots])
        return transition

    def _new_round(self, drawn: list[tuple[TaskConfig, int]]) -> tuple[Array, list[dict[str, Any]]]:
        self._left, self._cohorts = self._num_decisions, []
        return self._begin(np.arange(self._num_slots), drawn)

    def _draw(self, slot: int) -> tuple[TaskConfig, int]:
        """The next task and run seed of a slot, in the order in which `TrainingScheduleEnv` draws them."""
        rng = self._rngs[slot]
        return self._tasks.sample(rng), int(rng.integers(2**31))

    def _begin(self, slots: Array, drawn: list[tuple[TaskConfig, int]]) -> tuple[Array, list[dict[str, Any]]]:
        """Start runs in `slots` and train their opening."""
        configs = [
            dataclasses.replace(config, num_steps=self._num_steps, num_decisions=self._left) for config, _ in drawn
        ]
        population = Population([self._tasks.build(config) for config in configs])
        population.reset([run_seed for _, run_seed in drawn])
        window = Window.opening(population.spec)
        state, decision = self._interface.default(self._interface.init(population.spec), window)
        count = len(slots)
        cohort = _Cohort(
            slots, population, configs, state, window, np.ones(count), np.zeros(count),
            np.ones(count, dtype=bool),
        )  # fmt: skip
        self._cohorts.append(cohort)
        seen, finite, infos = self._advance(cohort, decision.lr_scale, decision.bucket_weights)
        loss = np.array([info["validation_loss"] for info in infos])
        cohort.first_loss = np.where(finite, np.maximum(loss, 1e-12), 1.0)
        for info, config, (_, run_seed) in zip(infos, configs, drawn, strict=True):
            info |= {"task": config, "run_seed": run_seed}
        return seen, infos

    def _step_cohort(
        self, cohort: _Cohort, actions: Array
    ) -> list[tuple[int, Array, float, bool, dict[str, Any]]]:
        """(slot, observation, reward, terminated, info) of every living run of the cohort, advanced."""
        if not cohort.alive.any():
            return []
        chosen = actions[cohort.slots]
        cohort.state, decision = self._interface.act(cohort.state, cohort.window, chosen)
        seen, finite, infos = self._advance(cohort, decision.lr_scale, decision.bucket_weights)
        loss = np.array([info["validation_loss"] for info in infos])
        log_loss = relative_log_loss(loss, cohort.first_loss, finite)
        reward = cohort.last_log_loss - log_loss
        over = ~finite | (cohort.window.step >= cohort.population.spec.num_steps)
        rows = np.flatnonzero(cohort.alive)
        cohort.last_log_loss, cohort.alive = log_loss, cohort.alive & ~over
        return [
            (int(cohort.slots[row]), seen[row], float(reward[row]), bool(over[row]), infos[row]) for row in rows
        ]

    def _advance(
        self, cohort: _Cohort, lr_scale: Array, weights: Array
    ) -> tuple[Array, Array, list[dict[str, Any]]]:
        """Train the living runs through their coming window: observations, whether each is sound, infos."""
        n_steps = np.where(cohort.alive, cohort.window.steps_ahead, 0)
        window = cohort.population.advance(n_steps, lr_scale, weights)
        validation = cohort.population.validation_loss()
        finite = (window.nonfinite == 0) & np.isfinite(validation)
        feedback = np.array([config.feedback for config in cohort.configs])
        window = window.replace(validation_loss=np.where(feedback & finite, validation, math.nan))
        cohort.window = window
        cohort.state, seen = self._interface.observe(cohort.state, window)
        infos = [
            {
                "validation_loss": float(validation[row]),
                "step": int(window.step[row]),
                "lr_scale": float(lr_scale[row, 0]),
                "bucket_weights": weights[row].copy(),
            }
            for row in range(len(cohort.slots))
        ]
        return seen, finite, infos
