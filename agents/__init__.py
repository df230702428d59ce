"""The agent that learns schedule policies: PPO over training runs."""

from rlsched.agents.export import export_policy
from rlsched.agents.network import BucketEquivariantPolicy
from rlsched.agents.ppo import SchedulePPO
from rlsched.agents.training import Progress, TrainConfig, train

__all__ = ["BucketEquivariantPolicy", "Progress", "SchedulePPO", "TrainConfig", "export_policy", "train"]
