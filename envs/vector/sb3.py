"""The vector of environments that stable-baselines3 learns from, over populations of stacked runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from stable_baselines3.common.vec_env import VecEnv

from rlsched import _check, observation
from rlsched.contract import Array
from rlsched.envs.tasks import TaskFamily
from rlsched.envs.vector.lockstep import Lockstep
from rlsched.policy import PolicyInterface


class PopulationVecEnv(VecEnv):
    """Training runs as a stable-baselines3 `VecEnv`, computed in groups.

    Slot i with seed s plays the episodes that a `TrainingScheduleEnv` seeded with s would, except that all
    slots of a group have the numbers of steps and decisions of the group's first: see `Lockstep`. Slots reset
    themselves, as the library wants it: `infos` hold `terminal_observation` and, as its `Monitor` does,
    `episode`. Nothing is truncated.

    Args:
        tasks: the family that tasks are drawn from; tasks must be ones a `Population` can stack.
        interface: observation and action decoding.
        num_envs: slots.
        group_size: slots computed together; every group draws its own numbers of steps and decisions.
    """

    def __init__(self, tasks: TaskFamily, interface: PolicyInterface, num_envs: int, group_size: int = 16) -> None:
        _check.integer("num_envs", num_envs, 1)
        _check.integer("group_size", group_size, 1)
        low, high = observation.bounds(tasks.num_buckets)
        action_space = spaces.Box(-1.0, 1.0, (1 + tasks.num_buckets,), dtype=np.float32)
        super().__init__(num_envs, spaces.Box(low, high, dtype=np.float32), action_space)
        starts = range(0, num_envs, group_size)
        self._groups = [slice(start, min(start + group_size, num_envs)) for start in starts]
        self._cores = [Lockstep(tasks, interface, group.stop - group.start) for group in self._groups]
        self._rngs = [seeding.np_random(None)[0] for _ in range(num_envs)]
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)

    def reset(self) -> Array:
        """Begin anew in every slot, with the seeds given since the last reset; (R, F + K * B) observations."""
        for slot, seed in enumerate(self._seeds):
            if seed is not None:
                self._rngs[slot] = seeding.np_random(seed)[0]
        self._reset_seeds()
        self._returns[:], self._lengths[:] = 0.0, 0
        seen = []
        for group, core in zip(self._groups, self._cores, strict=True):
            observations, self.reset_infos[group] = core.reset(self._rngs[group])
            seen.append(observations)
        return np.concatenate(seen)

    def step_async(self, actions: Array) -> None:
        """Keep (R, 1 + K) actions for `step_wait`."""
        self._actions = np.asarray(actions, dtype=np.float64)
        if self._actions.shape != (self.num_envs, *(self.action_space.shape or ())):
            raise ValueError(f"actions must have shape ({self.num_envs}, 1 + K), got {self._actions.shape}.")

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """Observations, rewards (R,), dones (R,) and infos of the actions given."""
        parts = [core.step(self._actions[group]) for group, core in zip(self._groups, self._cores, strict=True)]
        rewards = np.concatenate([part.rewards for part in parts])
        dones = np.concatenate([part.terminated for part in parts])
        final = np.concatenate([part.final for part in parts])
        infos = [info for part in parts for info in part.infos]
        self._returns += rewards
        self._lengths += 1
        for slot in np.flatnonzero(dones):
            infos[slot]["terminal_observation"] = final[slot]
            infos[slot]["episode"] = {"r": float(self._returns[slot]), "l": int(self._lengths[slot])}
        self._returns[dones], self._lengths[dones] = 0.0, 0
        return np.concatenate([part.observations for part in parts]), rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of this vector, once for each slot; stable-baselines3 asks for `render_mode`."""
        if attr_name != "render_mode":
            raise AttributeError(f"the slots of a population have no attribute {attr_name!r} of their own.")
        return [None for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: slots are rows of a population, not environments."""
        raise AttributeError(f"the slots of a population have no attribute {attr_name!r} of their own.")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Refused: slots are rows of a population, not environments."""
        raise AttributeError(f"the slots of a population have no method {method_name!r} of their own.")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """No slot is wrapped by anything; `episode` infos are given without a `Monitor`."""
        return [False for _ in self._get_indices(indices)]
