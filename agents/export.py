"""From a trained agent to a policy file's contents."""

from __future__ import annotations

from typing import Any

import rlsched
from rlsched.action import ActionSpec
from rlsched.agents.ppo import SchedulePPO
from rlsched.policy import Policy, PolicyMetadata


def export_policy(
    model: SchedulePPO,
    action: ActionSpec,
    *,
    training: dict[str, Any] | None = None,
    evaluation: dict[str, Any] | None = None,
) -> Policy:
    """The actor of `model` with its normaliser as a `Policy`.

    Args:
        model: a trained agent.
        action: the action decoding of the environments it was trained in.
        training: what to say of its training, as JSON.
        evaluation: its figures, as JSON.
    """
    network = model.policy.mlp_extractor
    state = {f"normalizer.{name}": value for name, value in network.normalizer.state_dict().items()}
    state = {name: value for name, value in state.items() if not name.endswith("_sums")}
    state |= network.actor.state_dict()
    return Policy(
        tensors={name: value.detach().cpu().numpy().copy() for name, value in state.items()},
        metadata=PolicyMetadata(
            action=action,
            training=training or {},
            evaluation=evaluation or {},
            rlsched_version=rlsched.__version__,
        ),
    )
