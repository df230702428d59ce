"""The agent that learns schedule policies: imitation and PPO over training runs."""

from rlsched.agents.config import EvaluationSettings, NetworkSettings, PPOSettings, TaskSettings, TrainConfig
from rlsched.agents.export import export_policy
from rlsched.agents.imitation import WarmStart
from rlsched.agents.network import BucketEquivariantPolicy
from rlsched.agents.ppo import RolloutPlan, SchedulePPO
from rlsched.agents.training import Progress, train

__all__ = [
    "BucketEquivariantPolicy",
    "EvaluationSettings",
    "NetworkSettings",
    "PPOSettings",
    "Progress",
    "RolloutPlan",
    "SchedulePPO",
    "TaskSettings",
    "TrainConfig",
    "WarmStart",
    "export_policy",
    "train",
]
