"""The learned policy: its file, its network, and what it sees and does."""

from rlsched.policy.format import PolicyFormatError, PolicyMetadata
from rlsched.policy.interface import PolicyInterface
from rlsched.policy.policy import Policy

__all__ = ["Policy", "PolicyFormatError", "PolicyInterface", "PolicyMetadata"]
