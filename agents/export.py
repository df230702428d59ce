"""From a trained agent to a policy file's contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import rlsched
from rlsched.action import ActionSpec
from rlsched.agents.network import BucketEquivariantPolicy
from rlsched.contract import Array
from rlsched.observation import RUN_FEATURES
from rlsched.policy import Policy, PolicyMetadata


def export_policy(
    policy: BucketEquivariantPolicy,
    action: ActionSpec,
    *,
    training: dict[str, Any] | None = None,
    evaluation: dict[str, Any] | None = None,
) -> Policy:
    """The actor of an agent's `policy` with its normaliser as a `Policy`.

    Args:
        policy: of the agent.
        action: the action decoding of the environments it was trained in.
        training: what to say of its training, as JSON.
        evaluation: its figures, as JSON.
    """
    return Policy(
        tensors=actor_tensors(policy),
        metadata=PolicyMetadata(
            action=action,
            training=training or {},
            evaluation=evaluation or {},
            rlsched_version=rlsched.__version__,
        ),
    )


def actor_tensors(policy: BucketEquivariantPolicy) -> dict[str, Array]:
    """The tensors of the policy file: the actor and its normaliser."""
    network = policy.mlp_extractor
    state = {f"normalizer.{name}": value for name, value in network.normalizer.state_dict().items()}
    state = {name: value for name, value in state.items() if not name.endswith("_sums")}
    state |= as_one([actor.state_dict() for actor in network.actor.actors])
    return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}


def as_one(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of one actor whose action is the mean of those of M `members`, which are of one size.

    Its hidden units are those of all members, side by side; weights between units of different members are zero.
    """
    run, units = len(RUN_FEATURES), len(members[0]["trunk.0.bias"])

    def below(name: str) -> Tensor:
        return torch.cat([member[name] for member in members])

    def blocks(name: str, columns: slice = slice(None)) -> Tensor:
        return torch.block_diag(*[member[name][:, columns] for member in members])

    def beside(name: str) -> Tensor:
        return torch.cat([member[name] for member in members], dim=1)

    own, shared = slice(units, None), slice(units)
    return {
        "encoder.weight": below("encoder.weight"),
        "encoder.bias": below("encoder.bias"),
        "trunk.0.weight": torch.cat(
            [below("trunk.0.weight")[:, :run], blocks("trunk.0.weight", slice(run, None))], dim=1
        ),
        "trunk.0.bias": below("trunk.0.bias"),
        "trunk.1.weight": blocks("trunk.1.weight"),
        "trunk.1.bias": below("trunk.1.bias"),
        "lr_head.weight": beside("lr_head.weight") / len(members),
        "lr_head.bias": below("lr_head.bias").mean(dim=0, keepdim=True),
        "bucket_head.0.weight": torch.cat(
            [blocks("bucket_head.0.weight", shared), blocks("bucket_head.0.weight", own)], dim=1
        ),
        "bucket_head.0.bias": below("bucket_head.0.bias"),
        "bucket_head.1.weight": beside("bucket_head.1.weight") / len(members),
        "bucket_head.1.bias": below("bucket_head.1.bias").mean(dim=0, keepdim=True),
    }
