"""Training runs as Markov decision processes. Importing this registers `rlsched/TrainingSchedule-v0`."""

import gymnasium

from rlsched.envs.inner_run import InnerRun
from rlsched.envs.torch_run import TorchRun
from rlsched.envs.training_schedule import TrainingScheduleEnv

__all__ = ["InnerRun", "TorchRun", "TrainingScheduleEnv"]

gymnasium.register(
    id="rlsched/TrainingSchedule-v0",
    entry_point="rlsched.envs.training_schedule:TrainingScheduleEnv",
    vector_entry_point="rlsched.envs.vector:PopulationVectorEnv",
)
