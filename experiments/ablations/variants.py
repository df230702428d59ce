"""The recipe without one of its parts at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from rlsched.agents import TrainConfig


def _without(part: str, **changes: Any) -> Callable[[TrainConfig], TrainConfig]:
    def change(config: TrainConfig) -> TrainConfig:
        return dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **changes)})

    return change


WHOLE = "whole recipe"
VARIANTS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    WHOLE: lambda config: config,
    "no warm start": _without("warm_start", groups=0),
    "no PPO": _without("ppo", iterations=0),
    "no curricula to imitate": _without("warm_start", buckets=False),
    "imitation of the tuned LR by distance alone": _without("warm_start", regret=0.0, distance=1.0),
    "a single round, the teacher acting": _without("warm_start", rounds=1),
    "no runs of the same task and seed": _without("rollouts", repeats=1),
    "critic without task facts": _without("ppo", privileged=False),
    "discount 0.97": _without("ppo", gamma=0.97),
    "larger exploration (std 0.5)": _without("ppo", initial_log_std=-0.7),
    "constant LR of PPO": _without("ppo", decay=False),
    "no KL stop": _without("ppo", target_kl=0.0),
}
"""Name -> the recipe changed."""
