"""PPO whose rollouts are reproducible one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from rlsched.agents.network import BucketEquivariantPolicy
from rlsched.agents.normalizer import Normalizer


class SchedulePPO(PPO):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347) by stable-baselines3.

    Every iteration starts from fresh episodes whose seeds follow from (seed, iteration) alone, and reseeds
    the generators that stable-baselines3 draws from. An iteration therefore depends only on the state it starts
    from (weights, optimizer, observation statistics), and a run that is resumed at one goes on as if it had
    never stopped.
    """

    policy: BucketEquivariantPolicy
    total_iterations: int = 1
    """Iterations of the whole training run: schedules of PPO's own settings span them, also over resumes."""

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return int(self.num_timesteps // (self.n_envs * self.n_steps))

    @property
    def normalizer(self) -> Normalizer:
        """The policy's observation statistics."""
        return self.policy.mlp_extractor.normalizer

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        drawn = np.random.SeedSequence([self.seed or 0, self.iteration]).generate_state(1 + env.num_envs)
        seeds = [int(value) // 4 * 2 for value in drawn]
        set_random_seed(seeds[0])
        if not self.normalizer.calibrated:
            self.normalizer.update(self._default_observations(env, seeds, n_rollout_steps))
        _use_seeds(env, seeds[1:])
        self._last_obs = env.reset()  # type: ignore[assignment]
        self._last_episode_starts = np.ones((env.num_envs,), dtype=bool)
        return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        # Called between a rollout and its update; the first update sees 1, the last 1 / total_iterations.
        self._current_progress_remaining = 1.0 - (self.iteration - 1) / self.total_iterations

    def train(self) -> None:
        """Update the weights on the rollout, then the observation statistics for the next one."""
        super().train()
        seen = self.rollout_buffer.observations
        self.normalizer.update(torch.as_tensor(seen.reshape(-1, seen.shape[-1])))

    def _default_observations(self, env: VecEnv, seeds: list[int], steps: int) -> torch.Tensor:
        """Observations (steps * n_envs, F + K * B) of runs scheduled by noise about the zero action."""
        rng = np.random.default_rng(seeds[0])
        scale = float(np.exp(self.policy.log_std_init))
        shape: Any = (env.num_envs, *(self.action_space.shape or ()))
        _use_seeds(env, seeds[1:])
        seen = [env.reset()]
        for _ in range(steps):
            env.step_async(np.clip(rng.normal(0.0, scale, shape), -1.0, 1.0).astype(np.float32))
            seen.append(env.step_wait()[0])
        return torch.as_tensor(np.concatenate(seen))  # type: ignore[arg-type]


def _use_seeds(env: VecEnv, seeds: list[int]) -> None:
    """Let the next reset of environment i use seed i. `VecEnv.seed` knows only consecutive seeds."""
    env._seeds = list(seeds)
