"""Vectorised environments over populations of stacked runs."""

from rlsched.envs.vector.lockstep import Lockstep, Transition
from rlsched.envs.vector.sb3 import PopulationVecEnv

__all__ = ["Lockstep", "PopulationVecEnv", "Transition"]
