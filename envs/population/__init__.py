"""Many inner runs advanced together, by batched operations."""

from rlsched.envs.population.population import Population

__all__ = ["Population"]
