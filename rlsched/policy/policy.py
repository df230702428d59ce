"""A learned schedule policy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from rlsched._files import write_atomically
from rlsched.contract import Array
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES
from rlsched.policy import format as policy_format
from rlsched.policy.format import PolicyMetadata
from rlsched.policy.interface import PolicyInterface
from rlsched.policy.network import forward


@dataclass(frozen=True, eq=False)
class Policy:
    """A policy network with its normaliser and metadata. Needs NumPy and safetensors alone.

    Use it with `rlsched.RLScheduler(optimizer, num_steps, policy=...)` or `rlsched.PolicyController`.

    Attributes:
        tensors: the network, see `policy.network.tensor_shapes`.
        metadata: action decoding, training distribution, figures, licence.
    """

    tensors: Mapping[str, Array]
    metadata: PolicyMetadata

    def __post_init__(self) -> None:
        policy_format.check_tensors(self.tensors)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """The policy in the file at `path`, or in `policy.safetensors` of that folder.

        Nothing in the file is executed, and nothing is downloaded.

        Raises:
            FileNotFoundError: there is no such file.
            PolicyFormatError: it is not a policy file that this version can read.
        """
        return cls(*policy_format.read(path))

    @classmethod
    def default(cls) -> Policy:
        """The policy that comes with rlsched: what it was trained on and how well it does is in docs/policy.md."""
        with resources.as_file(resources.files("rlsched") / "policies" / "default.safetensors") as path:
            return cls.load(path)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the policy to `path`, atomically; ValueError if its metadata is not JSON."""
        return write_atomically(path, policy_format.encode(self.tensors, self.metadata))

    @property
    def interface(self) -> PolicyInterface:
        """The observation and the action decoding this policy was trained with."""
        return PolicyInterface(self.metadata.action)

    @property
    def num_parameters(self) -> int:
        """Weights and biases, the normaliser not counted."""
        return sum(t.size for name, t in self.tensors.items() if not name.startswith("normalizer."))

    def __repr__(self) -> str:
        tasks = self.metadata.training.get("tasks")
        family = tasks.get("family") if isinstance(tasks, dict) else None
        return f"Policy({self.num_parameters:,} parameters, trained on {family or 'unknown tasks'})"

    def act(self, observation: Array) -> Array:
        """The deterministic action (R, 1 + K) in [-1, 1] for observations (R, F + K * B), K >= 1."""
        observation = np.asarray(observation, dtype=np.float32)
        extra = observation.shape[-1] - len(RUN_FEATURES)
        if observation.ndim != 2 or extra < len(BUCKET_FEATURES) or extra % len(BUCKET_FEATURES):
            raise ValueError(
                f"observation must have shape (R, {len(RUN_FEATURES)} + K * {len(BUCKET_FEATURES)}) "
                f"with K >= 1, got {observation.shape}."
            )
        return forward(self.tensors, observation)
