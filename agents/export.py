"""From a trained agent to a policy file's contents."""

from __future__ import annotations

from typing import Any

import rlsched
from rlsched.action import ActionSpec
from rlsched.agents.network import BucketEquivariantPolicy
from rlsched.contract import Array
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
    state |= network.actor.state_dict()
    return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}
