"""The vector of environments that stable-baselines3 learns from, over populations of stacked runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from rlsched.contract import Array
from rlsched.envs.tasks.task import TaskFamily
from rlsched.envs.vector.slots import Slots
from rlsched.policy import PolicyInterface


class PopulationVecEnv(VecEnv):
    """Training runs as a stable-baselines3 `VecEnv`, computed in groups.

    Slot i with seed s plays the episodes that a `TrainingScheduleEnv` seeded with s would, except that the tasks
    of a group can be computed together: see `Lockstep`. Slots reset themselves, as the library wants it: `infos`
    hold `terminal_observation` and, as its `Monitor` does, `episode`; `reset_infos` those of the episode begun.
    Nothing is truncated.

    The arguments are those of `Slots`.
    """

    def __init__(
        self,
        tasks: TaskFamily,
        interface: PolicyInterface | None = None,
        num_envs: int = 32,
        group_size: int = 32,
        unstackable: str = "refuse",
    ) -> None:
        self._slots = Slots(tasks, interface, num_envs, group_size, unstackable)
        super().__init__(num_envs, self._slots.observation_space, self._slots.action_space)
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)

    def reset(self) -> Array:
        """Begin anew in every slot, with the seeds given since the last reset; (R, F + K * B) observations."""
        observations, self.reset_infos = self._slots.reset(self._seeds)
        self._reset_seeds()
        self._returns[:], self._lengths[:] = 0.0, 0
        return observations

    def step_async(self, actions: Array) -> None:
        """Keep (R, 1 + K) actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """Observations, rewards (R,), dones (R,) and infos of the actions given."""
        moved = self._slots.step(self._actions)
        dones, infos = moved.terminated, moved.infos
        self._returns += moved.rewards
        self._lengths += 1
        for slot in np.flatnonzero(dones):
            infos[slot]["terminal_observation"] = moved.final[slot]
            infos[slot]["TimeLimit.truncated"] = False
            infos[slot]["episode"] = {"r": float(self._returns[slot]), "l": int(self._lengths[slot])}
            self.reset_infos[slot] = moved.reset_infos[slot]
        self._returns[dones], self._lengths[dones] = 0.0, 0
        return moved.observations, moved.rewards.astype(np.float32), dones, infos

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
