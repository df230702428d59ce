"""Whole trainings for tests, of seconds."""

from rlsched.agents import EvaluationSettings, PPOSettings, RolloutPlan, TrainConfig, WarmStart
from rlsched.policy import Policy

SMALL = TrainConfig(
    warm_start=WarmStart(groups=2, group_tasks=3, rounds=2, copies=1, epochs=2, minibatch=50),
    rollouts=RolloutPlan(units=2, slots=4, decisions=15, repeats=2),
    ppo=PPOSettings(iterations=3, minibatch=40, epochs=2, learning_rate=3e-3),
    evaluation=EvaluationSettings(every=2, groups=2, group_tasks=3),
)
"""Every stage, several steps of each, and episodes that are cut by the end of a rollout."""


def weights(policy: Policy) -> bytes:
    """All that decides what a policy does."""
    return b"".join(policy.tensors[name].tobytes() for name in sorted(policy.tensors))
