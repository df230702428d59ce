"""Vectorised environments over populations of stacked runs."""

from rlsched.envs.vector.gymnasium import PopulationVectorEnv
from rlsched.envs.vector.lockstep import Lockstep, Transition
from rlsched.envs.vector.sb3 import PopulationVecEnv
from rlsched.envs.vector.slots import Slots

__all__ = ["Lockstep", "PopulationVecEnv", "PopulationVectorEnv", "Slots", "Transition"]
