"""Refinement of a policy by trying, from the states it comes to, what another learning rate would have brought."""

from rlsched.agents.refinement.branching import OFFSETS, Branches, BranchUnit
from rlsched.agents.refinement.fitting import fit
from rlsched.agents.refinement.refine import Refinement, refine

__all__ = ["OFFSETS", "BranchUnit", "Branches", "Refinement", "fit", "refine"]
