"""Whole trainings for tests, of seconds."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlsched import Policy
from rlsched.agents import (
    EvaluationSettings,
    PPOSettings,
    Progress,
    RolloutPlan,
    TrainConfig,
    WarmStart,
    train,
)
from rlsched.envs.tasks import TaskFamily
from tests.families import TINY

SMALL = TrainConfig(
    warm_start=WarmStart(groups=2, group_tasks=3, rounds=2, copies=1, epochs=2, minibatch=50),
    rollouts=RolloutPlan(units=2, slots=4, decisions=15, repeats=2),
    ppo=PPOSettings(iterations=3, minibatch=40, epochs=2, learning_rate=3e-3),
    evaluation=EvaluationSettings(every=2, groups=2, group_tasks=3),
)
"""Every stage, several steps of each, and episodes that are cut by the end of a rollout."""


AHEAD = dataclasses.replace(SMALL, rollouts=dataclasses.replace(SMALL.rollouts, overlap=True))
BRIEF = TrainConfig(
    warm_start=WarmStart(groups=0),
    rollouts=RolloutPlan(units=1, slots=4, decisions=10),
    ppo=PPOSettings(iterations=1, minibatch=20, epochs=1),
    evaluation=EvaluationSettings(groups=1, group_tasks=3),
)
"""PPO alone, for one iteration."""


class Stop(Exception):
    """The training is interrupted."""


@dataclass
class Run:
    """A training in a folder, as it went."""

    out: Path
    policy: Policy
    told: list[Progress]

    @property
    def checkpoint(self) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(self.out / "checkpoint.pt", weights_only=True)
        return found


def run(config: TrainConfig, out: Path, tasks: TaskFamily = TINY) -> Run:
    told: list[Progress] = []
    return Run(out, train(config, out, tasks=tasks, report=told.append), told)


def weights(policy: Policy) -> bytes:
    """All that decides what a policy does."""
    return b"".join(policy.tensors[name].tobytes() for name in sorted(policy.tensors))


def check_equal(one: Any, other: Any, where: str = "") -> None:
    """Fail unless two checkpoints, or parts of them, agree bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name, value in one.items():
            check_equal(value, other[name], f"{where}/{name}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            check_equal(mine, theirs, f"{where}/{number}")
    else:
        assert one == other or (one != one and other != other), where


def check_same_end(one: Run, other: Run) -> None:
    """Fail unless two trainings ended alike: policy, figures, and all that a further step would depend on."""
    assert weights(one.policy) == weights(other.policy)
    assert one.policy.metadata.evaluation == other.policy.metadata.evaluation
    assert one.policy.metadata.action == other.policy.metadata.action
    settings = [dict(each.policy.metadata.training) for each in (one, other)]
    for each in settings:
        each.pop("made_with")  # a colleague may commit between two trainings
    assert settings[0] == settings[1]
    check_equal(one.checkpoint, other.checkpoint)
