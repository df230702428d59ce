"""The rollout unit: what PPO learns from, in pieces that can be collected anywhere."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from rlsched.agents.privileged import facts
from rlsched.agents.rollouts.job import Setting, Weights
from rlsched.contract import Array
from rlsched.envs.vector import Lockstep
from rlsched.policy.network import mean_action


@dataclass(frozen=True, eq=False)
class Rollout:
    """T decisions of E training runs side by side.

    Attributes:
        observations: (T, E, F + K * B) float32.
        actions: (T, E, 1 + K) float32, as drawn: the environment clips them to [-1, 1].
        log_probs: (T, E) float32, of the actions.
        rewards: (T, E) float32.
        starts: (T, E) whether an episode began with the observation.
        facts: (T, E, P) float32, see `agents.privileged`.
        peers: (T, E) int64, the same number for decisions at the same time of runs that began as one (the same
            task from the same seed); -1 where a run has no such peers.
        last_observations: (E, F + K * B) after the last decision.
        last_facts: (E, P).
        last_starts: (E,) whether an episode has ended with the last decision.
        returns: (n,) of the episodes that ended.
        lengths: (n,) their decisions.
    """

    observations: Array
    actions: Array
    log_probs: Array
    rewards: Array
    starts: Array
    facts: Array
    peers: Array
    last_observations: Array
    last_facts: Array
    last_starts: Array
    returns: Array
    lengths: Array

    @classmethod
    def join(cls, rollouts: list[Rollout]) -> Rollout:
        """Side by side, in their order."""
        axis = dict.fromkeys(("last_observations", "last_facts", "last_starts", "returns", "lengths"), 0)
        joined: dict[str, Any] = {}
        offset = 0
        for rollout in rollouts:
            # Numbers of peers start anew in each.
            joined.setdefault("peers", []).append(np.where(rollout.peers < 0, -1, rollout.peers + offset))
            offset += rollout.peers.size
        joined["peers"] = np.concatenate(joined["peers"], axis=1)
        for field in fields(cls):
            if field.name != "peers":
                parts = [getattr(rollout, field.name) for rollout in rollouts]
                joined[field.name] = np.concatenate(parts, axis=axis.get(field.name, 1))
        return cls(**joined)


@dataclass(frozen=True)
class RolloutUnit:
    """`slots` runs for `decisions` decisions each, acted in by the exploring policy.

    Attributes:
        seed: of everything in it: the tasks, the runs, the exploration. Training's are even, see `unit_seed`.
        slots: runs side by side, E, a multiple of `repeats`; episodes follow one another in each.
        decisions: T.
        repeats: runs of each task from the same seed.
    """

    seed: int
    slots: int
    decisions: int
    repeats: int = 1

    def run(self, setting: Setting, weights: Weights) -> Rollout:
        """The rollout of the policy in `weights`."""
        groups = self.slots // self.repeats
        drawn = np.random.SeedSequence(self.seed).generate_state(groups + 1)
        noise = np.random.default_rng(drawn[-1])
        core = Lockstep(
            setting.tasks, setting.interface, self.slots, setting.unstackable, self.repeats, setting.device
        )
        seen, infos = core.reset([seeding.np_random(even(value))[0] for value in drawn[:-1]])
        std = np.exp(weights["log_std"].astype(np.float64))
        known = np.stack([facts(info["task"]) for info in infos])
        starts, totals, lengths = np.ones(self.slots, dtype=bool), np.zeros(self.slots), np.zeros(self.slots)
        kept: dict[str, list[Any]] = {field.name: [] for field in fields(Rollout)}
        for step in range(self.decisions):
            mean = mean_action(weights, seen)
            z = noise.standard_normal(mean.shape)
            actions = (mean + std * z).astype(np.float32)
            numbers = step * groups + np.arange(self.slots) // self.repeats
            kept["observations"].append(seen)
            kept["actions"].append(actions)
            kept["log_probs"].append((-0.5 * z**2 - np.log(std) - 0.5 * np.log(2.0 * np.pi)).sum(axis=1))
            kept["starts"].append(starts)
            kept["facts"].append(known)
            kept["peers"].append(np.where(core.has_peers, numbers, -1))
            moved = core.step(np.clip(actions, -1.0, 1.0), renew=step < self.decisions - 1)
            seen, starts = moved.observations, moved.terminated
            kept["rewards"].append(moved.rewards)
            totals, lengths = totals + moved.rewards, lengths + 1
            kept["returns"] += totals[starts].tolist()
            kept["lengths"] += lengths[starts].tolist()
            totals[starts], lengths[starts] = 0.0, 0
            known = known.copy()
            for slot in np.flatnonzero(starts):
                if moved.reset_infos[slot]:
                    known[slot] = facts(moved.reset_infos[slot]["task"])
        kinds = {"starts": bool, "peers": np.int64, "last_starts": bool}
        last = {"last_observations": seen, "last_facts": known, "last_starts": starts}
        return Rollout(
            **{name: np.asarray(value, dtype=kinds.get(name, np.float32)) for name, value in (kept | last).items()}
        )


def even(value: int) -> int:
    """A seed of training near `value`: evaluation's are odd."""
    return int(value) // 4 * 2


def unit_seed(seed: int, iteration: int, index: int) -> int:
    """The seed of unit `index` of `iteration` in a training of `seed`."""
    return even(np.random.SeedSequence([seed, iteration, index]).generate_state(1, np.uint64)[0])
