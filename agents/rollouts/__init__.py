"""Rollouts in units that depend on nothing but their seeds, and the backends that collect them."""

from rlsched.agents.rollouts.backend import NO_WEIGHTS, Backend, Done, InProcess, Pending, ignore
from rlsched.agents.rollouts.job import Job, Setting, Weights
from rlsched.agents.rollouts.unit import Rollout, RolloutUnit, unit_seed

__all__ = [
    "NO_WEIGHTS",
    "Backend",
    "Done",
    "InProcess",
    "Job",
    "Pending",
    "Rollout",
    "RolloutUnit",
    "Setting",
    "Weights",
    "ignore",
    "unit_seed",
]
