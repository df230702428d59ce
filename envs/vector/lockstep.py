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
from rlsched.envs.tasks.task import Task, TaskConfig, TaskFamily
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

    With `repeats` G, slots g G to g G + G - 1 begin every round with the same task from the same seed, drawn from
    generator g: what their returns differ in is what was decided. (A run that replaces another has no such peers.)

    Args:
        tasks: the family that tasks are drawn from.
        interface: observation and action decoding.
        num_slots: R, a multiple of `repeats`.
        unstackable: see `Population`.
        repeats: runs of each task, G.
        device: see `Population`.
    """

    def __init__(
        self,
        tasks: TaskFamily,
        interface: PolicyInterface,
        num_slots: int,
        unstackable: str = "refuse",
        repeats: int = 1,
        device: str = "cpu",
    ) -> None:
        self._tasks, self._interface, self._num_slots = tasks, interface, num_slots
        self._unstackable, self._repeats, self._device = unstackable, repeats, device
        self.has_peers = np.zeros(num_slots, dtype=bool)
        """(R,) whether the slot's run began its round together with those of the same task."""
        self._rngs: list[np.random.Generator] = []
        self._cohorts: list[tuple[Array, Episodes]] = []
        """Which slots the episodes that began together fill."""

    def reset(self, rngs: Sequence[np.random.Generator]) -> tuple[Array, list[dict[str, Any]]]:
        """Begin a round in which slot i draws from `rngs[i // repeats]`; observations and infos of the slots."""
        self._rngs = list(rngs)
        # Of a copy, so that the first slot will draw the same task itself.
        self._first = self._tasks.sample(copy.deepcopy(self._rngs[0]))
        return self._new_round()

    def step(self, actions: Array, renew: bool = True) -> Transition:
        """Decide with `actions` (R, 1 + K), train to the next decision, observe; begin anew what has ended.

        Where nobody will step again, `renew=False` spares the beginning.
        """
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
        if not renew:
            return transition
        if self._left == 0:
            transition.observations, transition.reset_infos = self._new_round()
        elif terminated.any():
            self._cohorts = [(slots, episodes) for slots, episodes in self._cohorts if episodes.alive.any()]
            slots = np.flatnonzero(terminated)
            self.has_peers[slots] = False
            transition.observations[slots], begun = self._begin(slots, [self._draw(int(slot)) for slot in slots])
            for slot, info in zip(slots, begun, strict=True):
                transition.reset_infos[slot] = info
        return transition

    def _new_round(self) -> tuple[Array, list[dict[str, Any]]]:
        self._left, self._cohorts = self._first.num_decisions, []
        self.has_peers[:] = self._repeats > 1
        drawn: list[tuple[TaskConfig, int]] = []
        for slot in range(0, self._num_slots, self._repeats):
            drawn += [self._draw(slot)] * self._repeats
        return self._begin(np.arange(self._num_slots), drawn)

    def _draw(self, slot: int) -> tuple[TaskConfig, int]:
        """Settings and seed of the next run of `slot`."""
        rng = self._rngs[slot // self._repeats]
        config = self._tasks.sample_like(rng, self._first)
        return dataclasses.replace(config, num_decisions=self._left), int(rng.integers(2**31))

    def _begin(self, slots: Array, drawn: Sequence[tuple[TaskConfig, int]]) -> tuple[Array, list[dict[str, Any]]]:
        """Start the runs `drawn` in `slots` and train their opening."""
        tasks: list[Task] = []
        for row, (config, _) in enumerate(drawn):
            same = row > 0 and drawn[row - 1] is drawn[row]
            tasks.append(tasks[-1] if same else self._tasks.build(config))
        population = Population(tasks, unstackable=self._unstackable, device=self._device)
        population.reset([seed for _, seed in drawn])
        episodes = Episodes(population, tasks, self._interface)
        self._cohorts.append((slots, episodes))
        seen, infos = episodes.begin()
        for info, (config, seed) in zip(infos, drawn, strict=True):
            info |= {"task": config, "run_seed": seed}
        return seen, infos
