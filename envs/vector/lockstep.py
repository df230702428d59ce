"""Episodes that begin and end together: the core of the vectorised environments."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsched.contract import Array
from rlsched.envs.episodes import Episodes
from rlsched.envs.population import Population
from rlsched.envs.tasks.task import TaskConfig, TaskFamily
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
        reset_infos: (R,) those of the new episode where one has begun, else empty.
    """

    observations: Array
    rewards: Array
    terminated: Array
    final: Array
    infos: list[dict[str, Any]]
    reset_infos: list[dict[str, Any]]


class Lockstep:
    """R slots whose episodes begin and end together, so that they are computed together.

    From one `reset` to the next, the tasks of all slots can be computed together with the first one of the first
    slot (`TaskFamily.sample_like`): they have its numbers of steps and decisions, so no row waits for another.
    Otherwise every slot's tasks and seeds follow from its own generator, as a `TrainingScheduleEnv`'s do. A run
    that diverges is replaced at once by a new one with as many decisions as its round has left.

    Args:
        tasks: the family that tasks are drawn from.
        interface: observation and action decoding.
        num_slots: R.
        unstackable: see `Population`.
    """

    def __init__(
        self, tasks: TaskFamily, interface: PolicyInterface, num_slots: int, unstackable: str = "refuse"
    ) -> None:
        self._tasks, self._interface, self._num_slots = tasks, interface, num_slots
        self._unstackable = unstackable
        self._rngs: list[np.random.Generator] = []
        self._cohorts: list[tuple[Array, Episodes]] = []
        """Which slots the episodes that began together fill."""

    def reset(self, rngs: Sequence[np.random.Generator]) -> tuple[Array, list[dict[str, Any]]]:
        """Begin a round in which slot i draws from `rngs[i]`; the observations and infos of the slots."""
        self._rngs = list(rngs)
        # Of a copy, so that the first slot will draw the same task itself.
        self._first = self._tasks.sample(copy.deepcopy(self._rngs[0]))
        return self._new_round()

    def step(self, actions: Array) -> Transition:
        """Decide with `actions` (R, 1 + K), train to the next decision, observe; begin anew what has ended."""
        runs = self._num_slots
        rewards, terminated = np.zeros(runs), np.zeros(runs, dtype=bool)
        final: list[Array] = [np.zeros(0)] * runs
        infos: list[dict[str, Any]] = [{}] * runs
        for slots, episodes in self._cohorts:
            living = np.flatnonzero(episodes.alive)
            if not len(living):
                continue
            seen, reward, over, told = episodes.step(actions[slots])
            for row in living:
                slot = slots[row]
                final[slot], infos[slot] = seen[row], told[row]
                rewards[slot], terminated[slot] = reward[row], over[row]
        self._left -= 1
        observations = np.stack(final)
        transition = Transition(observations.copy(), rewards, terminated, observations, infos, [{}] * runs)
        if self._left == 0:
            transition.observations, transition.reset_infos = self._new_round()
        elif terminated.any():
            self._cohorts = [(slots, episodes) for slots, episodes in self._cohorts if episodes.alive.any()]
            slots = np.flatnonzero(terminated)
            transition.observations[slots], begun = self._begin(slots)
            for slot, info in zip(slots, begun, strict=True):
                transition.reset_infos[slot] = info
        return transition

    def _new_round(self) -> tuple[Array, list[dict[str, Any]]]:
        self._left, self._cohorts = self._first.num_decisions, []
        return self._begin(np.arange(self._num_slots))

    def _begin(self, slots: Array) -> tuple[Array, list[dict[str, Any]]]:
        """Start runs in `slots` and train their opening."""
        configs, seeds = [], []
        for slot in slots:
            config: TaskConfig = self._tasks.sample_like(self._rngs[slot], self._first)
            configs.append(dataclasses.replace(config, num_decisions=self._left))
            seeds.append(int(self._rngs[slot].integers(2**31)))
        tasks = [self._tasks.build(config) for config in configs]
        population = Population(tasks, unstackable=self._unstackable)
        population.reset(seeds)
        episodes = Episodes(population, tasks, self._interface)
        self._cohorts.append((slots, episodes))
        seen, infos = episodes.begin()
        for info, config, seed in zip(infos, configs, seeds, strict=True):
            info |= {"task": config, "run_seed": seed}
        return seen, infos
