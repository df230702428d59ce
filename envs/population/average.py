"""The mean of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlsched.envs.population.population import Population

_DRAWS = ("order", "randomness")
"""Of a run's state: what it will draw, from the data and in its modules."""


def average(
    population: Population, sources: Sequence[int], targets: Sequence[int], *, own_draws: bool = False
) -> None:
    """Let runs `targets` go on from the mean of runs `sources`, all of one task: parameters and optimizer moments.

    What cannot be averaged (steps done, place in the data) is as in the first of `sources`: all `targets` are then
    the same run, for as long as they are scheduled alike. With `own_draws` each keeps its own place in its own
    order of the data, and they see different batches from there.

    Raises:
        ValueError: no sources, or runs of different tasks.
    """
    rows = [*map(int, sources), *map(int, targets)]
    if len(sources) == 0:
        raise ValueError("sources must hold at least one row to average.")
    if any(population.tasks[row] is not population.tasks[rows[0]] for row in rows):
        raise ValueError(f"rows {sorted(set(rows))} are of different tasks: average rows of one task.")
    mean = mean_state([population.row_state(row) for row in sources])
    if "last_gradient_step" in mean:
        # The mean of gradients is none that a cosine could be taken with; -2 is before any step.
        mean["last_gradient_step"] = -2
    for row in targets:
        state = mean
        if own_draws:
            own = population.row_state(row)
            state = mean | {name: own[name] for name in _DRAWS if name in own}
        population.load_row_state(row, state)


def mean_state(states: Sequence[Any]) -> Any:
    """The mean of nested states of the same structure, tensor by tensor; what is no float tensor is the first's.

    >>> mean_state([{"w": [torch.zeros(1)], "step": 3}, {"w": [torch.ones(1)], "step": 3}])
    {'w': [tensor([0.5000])], 'step': 3}
    """
    first = states[0]
    if isinstance(first, dict):
        return {name: mean_state([state[name] for state in states]) for name in first}
    if isinstance(first, (list, tuple)):
        return type(first)(mean_state(parts) for parts in zip(*states, strict=True))
    if isinstance(first, Tensor) and first.is_floating_point():
        # Around the first, so that the mean of equal states is that state to the bit.
        return first + torch.stack([state - first for state in states]).sum(dim=0) / len(states)
    return first
