"""Settings of trainings that are worth starting from."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

from rlsched.agents.config import EvaluationSettings, PPOSettings, TaskSettings, TrainConfig
from rlsched.agents.imitation import WarmStart
from rlsched.agents.ppo import RolloutPlan

QUICK = TrainConfig(
    tasks=TaskSettings(family="quick"),
    warm_start=WarmStart(groups=30, group_tasks=8, rounds=4),
    rollouts=RolloutPlan(units=4, slots=32, repeats=2),
    ppo=PPOSettings(iterations=4),
    evaluation=EvaluationSettings(every=4, groups=16, group_tasks=4),
)
"""A few minutes on two cores: learning rate and curriculum of small MLPs in short runs."""

DEFAULT = TrainConfig(
    tasks=TaskSettings(family="short"),
    warm_start=WarmStart(groups=110, group_tasks=8, rounds=7),
    rollouts=RolloutPlan(units=8, slots=32, repeats=2),
    ppo=PPOSettings(iterations=20),
    evaluation=EvaluationSettings(every=10, groups=64, group_tasks=4),
)
"""Learning rate and curriculum over tasks of every family. Meant to take less than an hour on two cores."""

LR_ONLY = dataclasses.replace(
    DEFAULT,
    tasks=dataclasses.replace(DEFAULT.tasks, curriculum=False),
    warm_start=dataclasses.replace(DEFAULT.warm_start, buckets=False),
)
"""The same without a curriculum: all tasks keep their natural mixture."""

PRESETS = MappingProxyType({"quick": QUICK, "default": DEFAULT, "lr-only": LR_ONLY})
