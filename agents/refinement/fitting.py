"""Fitting a policy to what was tried."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from rlsched.agents.network import Actor
from rlsched.agents.normalizer import Normalizer
from rlsched.agents.refinement.branching import OFFSETS, Branches
from rlsched.observation import RUN_FEATURES
from rlsched.policy import Policy

MINIBATCH = 512
KEPT = 0.12
"""Share of a run that is early."""
_PROGRESS = [feature.name for feature in RUN_FEATURES].index("progress")
BUCKETS = 0.3
"""Weight of the squared distance of bucket actions from those before, which nothing was tried for."""


def fit(start: Policy, branches: Branches, *, epochs: int, learning_rate: float, most: float, seed: int) -> Policy:
    """`start` with its network trained on `branches`: moves to where little is lost, bucket actions as they were.

    Moves early in a run stay as they were, too. A try there ends well or badly by what a policy would set right
    later, and a single one that is too bold can ruin a run for good.

    Args:
        start: the policy; its normaliser stays.
        branches: states, and what was tried there.
        epochs: passes over them.
        learning_rate: of Adam at first, falling linearly to zero.
        most: regret that a state counts at most, in nats, so that a few failures do not decide.
        seed: of the order of the states.
    """
    normalizer, actor = _network(start)
    seen, regret = torch.as_tensor(branches.observations), torch.as_tensor(branches.regret).clamp(max=most)
    with torch.no_grad():
        before = actor.act(*normalizer(seen))
    kept = (seen[:, _PROGRESS] < KEPT).float()
    optimizer = torch.optim.Adam(actor.parameters(), lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(seen) // MINIBATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(seen), generator=generator).split(MINIBATCH):
            actions = actor.act(*normalizer(seen[rows]))
            moves = actions[:, 0]
            decades = start.metadata.action.max_move * moves.clamp(-1.0, 1.0)
            # Where a move is cut off, regret has no slope: without this, it would never come back.
            overshoot = (moves.abs() - 1.0).clamp(min=0.0)
            error = torch.lerp(interpolate(regret[rows], decades), (moves - before[rows, 0]) ** 2, kept[rows])
            optimizer.zero_grad()
            ((error + overshoot).mean() + BUCKETS * mse_loss(actions[:, 1:], before[rows, 1:])).backward()
            optimizer.step()
            schedule.step()
    trained = {name: values.detach().numpy().copy() for name, values in actor.state_dict().items()}
    return dataclasses.replace(start, tensors={**start.tensors, **trained})


def interpolate(values: Tensor, decades: Tensor) -> Tensor:
    """(n,) of `values` (n, O) at `OFFSETS`, what they are at `decades` (n,): by lines, beyond the ends flat."""
    grid = torch.tensor(OFFSETS)
    decades = decades.clamp(grid[0], grid[-1])
    below = (torch.bucketize(decades.detach(), grid, right=True) - 1).clamp(0, len(OFFSETS) - 2)
    share = (decades - grid[below]) / (grid[below + 1] - grid[below])
    low, high = (values.gather(1, index[:, None])[:, 0] for index in (below, below + 1))
    return low + share * (high - low)


def _network(policy: Policy) -> tuple[Normalizer, Actor]:
    """The normaliser and the network that a policy file holds."""
    tensors = {name: torch.as_tensor(np.array(values)) for name, values in policy.tensors.items()}
    normalizer, part = Normalizer(), "normalizer."
    statistics = {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
    normalizer.load_state_dict(normalizer.state_dict() | statistics)
    weights = {name: value for name, value in tensors.items() if not name.startswith(part)}
    actor = Actor(len(weights["lr_head.weight"][0]), len(weights["encoder.bias"]))
    actor.load_state_dict(weights)
    return normalizer, actor
