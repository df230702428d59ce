"""Which curriculum to imitate in a state: what costs least on all tasks that look like this one.

A search tries each curriculum in one run, and which of twenty ends best in one run is mostly chance. What it costs
on average, over all tasks that cannot be told from this one, is not: so the choice is learned, as that of a
learning rate is, by the costs of what might be chosen (cost-sensitive classification, Elkan 2001, "The Foundations
of Cost-Sensitive Learning"). The natural mixture costs nothing, and is what is left where nothing pays.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from rlsched.contract import Array
from rlsched.controllers.curriculum.fixed import curricula

UNITS = 64
"""Hidden units in each of the two layers of a chooser."""
MEMBERS = 3
"""Choosers whose probabilities are averaged."""
EPOCHS, MINIBATCH, LEARNING_RATE, WEIGHT_DECAY = 8, 512, 2e-3, 0.3
"""Of a chooser's fit by AdamW, its learning rate falling linearly to zero."""
PRIOR = 3.0
"""By how much ln(probability) of the natural mixture is above the others' before anything is learned."""
LEAST = 0.01
"""Nats that a curriculum has to bring on average, or the mixture stays natural."""
MOST = 0.5
"""Nats that a curriculum can cost or bring, at most: one disaster is not to decide for all tasks like it."""


def choose(seen: Tensor, costs: Array, rng: np.random.Generator) -> Array:
    """(n, C) how much of each curriculum to take in each of n states, from 0 to 1, in sum 1.

    Choosers see the states alone, and are fitted to `min_p mean_i sum_c p_c(seen_i) v(costs_ic)`, where v bounds
    costs by `MOST` and adds `LEAST` to all but the natural mixture's.

    Args:
        seen: (n, D) float32 observations, normalised.
        costs: (n, C) nats of final loss that each curriculum costs in the state's task.
        rng: decides first weights and orders.
    """
    bounded = np.clip(costs, -MOST, MOST)
    bounded[:, 1:] += LEAST
    counted = torch.as_tensor(bounded, dtype=torch.float32)
    total = torch.zeros(counted.shape)
    for _ in range(MEMBERS):
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        chooser = _chooser(seen.shape[1], counted.shape[1], generator)
        _fit(chooser, seen, counted, generator)
        with torch.no_grad():
            total += chooser(seen).softmax(dim=1)
    return (total / MEMBERS).numpy()


def mixed_logits(shares: Array, progress: Array, followed: Array) -> Array:
    """(n, K) bucket logits, of mean zero, of curricula that are mixed.

    Args:
        shares: (n, C + F) how much of each of `curricula(K)`, and then of F that follow the run.
        progress: (n,) of the runs.
        followed: (n, F, K) bucket logits of the latter at that progress.
    """
    fixed = np.stack([each.logits(progress) for each in curricula(followed.shape[2])], axis=1)
    logits = np.concatenate([fixed, followed], axis=1)
    mixed: Array = (shares[:, :, None] * logits).sum(axis=1)
    return mixed


def _chooser(inputs: int, choices: int, generator: torch.Generator) -> nn.Sequential:
    layers = [skip_init(nn.Linear, *shape) for shape in ((inputs, UNITS), (UNITS, UNITS), (UNITS, choices))]
    for layer, gain in zip(layers, (2.0**0.5, 2.0**0.5, 0.01), strict=True):
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layers[-1].bias[0] = PRIOR
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


def _fit(chooser: nn.Sequential, seen: Tensor, costs: Tensor, generator: torch.Generator) -> None:
    optimizer = torch.optim.AdamW(chooser.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(seen) // MINIBATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(seen), generator=generator).split(MINIBATCH):
            expected = (chooser(seen[rows]).softmax(dim=1) * costs[rows]).sum(dim=1).mean()
            optimizer.zero_grad()
            expected.backward()
            optimizer.step()
            schedule.step()
