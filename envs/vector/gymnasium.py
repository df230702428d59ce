"""The same training runs as a Gymnasium vector of environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlsched.contract import Array
from rlsched.envs.tasks import Digits
from rlsched.envs.tasks.task import TaskFamily
from rlsched.envs.vector.slots import Slots
from rlsched.policy import PolicyInterface


class PopulationVectorEnv(VectorEnv[Array, Array, Array]):
    """Training runs as a `gymnasium.vector.VectorEnv`, computed in groups.

    Slots behave as `PopulationVecEnv`'s do. A slot whose episode ends is reset in the same step
    (`AutoresetMode.SAME_STEP`): the observation is the first of the next episode, and the info holds the last one
    of the old as `final_obs` and its info as `final_info`. Nothing is truncated.

    Args:
        tasks: the family that tasks are drawn from; by default `Digits()`.
        interface: observation and action decoding.
        num_envs: slots R, at least 1.
        group_size: slots computed together, at least 1.
        unstackable: what to do about tasks that a `Population` cannot stack: "refuse" or "eager".
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (Gymnasium's own)

    def __init__(
        self,
        tasks: TaskFamily | None = None,
        interface: PolicyInterface | None = None,
        num_envs: int = 32,
        group_size: int = 32,
        unstackable: str = "refuse",
    ) -> None:
        tasks = Digits() if tasks is None else tasks
        self._slots = Slots(tasks, interface, num_envs, group_size, unstackable)
        self.num_envs = num_envs
        self.single_observation_space = self._slots.observation_space
        self.single_action_space = self._slots.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin anew in every slot; slot i from `seed + i`, or from `seed[i]`. There are no options."""
        if options:
            raise ValueError(f"options must be empty, got {sorted(options)}: tasks come from the family.")
        if seed is None:
            seeds: list[int | None] = [None] * self.num_envs
        elif isinstance(seed, Sequence):
            seeds = list(seed)
        else:
            seeds = [int(seed) + slot for slot in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed must be an integer or {self.num_envs} of them, got {len(seeds)}.")
        observations, infos = self._slots.reset(seeds)
        return observations, self._joined(infos)

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Observations (R, F + K * B), rewards, terminated and truncated (R,), and infos."""
        moved = self._slots.step(actions)
        infos: list[dict[str, Any]] = []
        for slot, info in enumerate(moved.infos):
            if moved.terminated[slot]:
                info = moved.reset_infos[slot] | {"final_obs": moved.final[slot], "final_info": info}
            infos.append(info)
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        return moved.observations, moved.rewards, moved.terminated, truncated, self._joined(infos)

    def _joined(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The slots' infos as Gymnasium joins them: arrays, with a mask of the slots that have an entry."""
        joined: dict[str, Any] = {}
        for slot, info in enumerate(infos):
            joined = self._add_info(joined, info, slot)
        return joined
