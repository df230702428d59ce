"""Groups of slots as one vector: what both libraries' environments are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding

from rlsched import _check, observation
from rlsched.contract import Array
from rlsched.envs.tasks.task import TaskFamily, check_family
from rlsched.envs.vector.lockstep import Lockstep, Transition
from rlsched.policy import PolicyInterface


class Slots:
    """Groups of slots, each computed together (`Lockstep`), behind one another.

    Args:
        tasks: the family that tasks are drawn from.
        interface: observation and action decoding; None for the default.
        num_envs: slots R, at least 1.
        group_size: slots computed together, at least 1; every group draws what its tasks have in common.
        unstackable: what to do about tasks that a `Population` cannot stack: "refuse" or "eager".
    """

    def __init__(
        self,
        tasks: TaskFamily,
        interface: PolicyInterface | None,
        num_envs: int,
        group_size: int,
        unstackable: str = "refuse",
    ) -> None:
        check_family(tasks)
        interface = PolicyInterface() if interface is None else interface
        if not isinstance(interface, PolicyInterface):
            raise TypeError(f"interface must be a PolicyInterface or None, got {type(interface).__name__}.")
        self.num_envs = _check.integer("num_envs", num_envs, 1)
        _check.integer("group_size", group_size, 1)
        low, high = observation.bounds(tasks.num_buckets)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1 + tasks.num_buckets,), dtype=np.float32)
        starts = range(0, num_envs, group_size)
        self._groups = [slice(start, min(start + group_size, num_envs)) for start in starts]
        self._cores = [Lockstep(tasks, interface, group.stop - group.start, unstackable) for group in self._groups]
        self._begun = False
        self._rngs = [seeding.np_random(None)[0] for _ in range(num_envs)]

    def reset(self, seeds: Sequence[int | None]) -> tuple[Array, list[dict[str, object]]]:
        """Begin anew in every slot, from its seed where one is given: observations (R, F + K * B) and infos."""
        for slot, seed in enumerate(seeds):
            if seed is not None:
                self._rngs[slot] = seeding.np_random(seed)[0]
        self._begun = True
        parts = [core.reset(self._rngs[group]) for group, core in zip(self._groups, self._cores, strict=True)]
        return np.concatenate([seen for seen, _ in parts]), [info for _, infos in parts for info in infos]

    def step(self, actions: Array) -> Transition:
        """The next decision of every slot, with `actions` (R, 1 + K)."""
        if not self._begun:
            raise ResetNeeded("call reset() before step().")
        actions = np.asarray(actions, dtype=np.float64)
        shape = (self.num_envs, *(self.action_space.shape or ()))
        if actions.shape != shape or not np.isfinite(actions).all():
            raise ValueError(f"actions must be finite with shape ({self.num_envs}, 1 + K), got {actions.shape}.")
        parts = [core.step(actions[group]) for group, core in zip(self._groups, self._cores, strict=True)]
        return Transition(
            observations=np.concatenate([part.observations for part in parts]),
            rewards=np.concatenate([part.rewards for part in parts]),
            terminated=np.concatenate([part.terminated for part in parts]),
            final=np.concatenate([part.final for part in parts]),
            infos=[info for part in parts for info in part.infos],
            reset_infos=[info for part in parts for info in part.reset_infos],
        )
