"""Advantages relative to runs that differ in nothing but what was decided."""

from __future__ import annotations

import numpy as np

from rlsched.contract import Array


def relative_to_peers(advantages: Array, peers: Array) -> Array:
    """Advantages minus the mean advantage of the other peers; unchanged where there is none.

    Runs of the same task from the same seed share nearly all of their luck: how hard the task is, how good the
    initialisation. What the peers have in common says nothing about an action. The mean leaves the run itself out,
    so that it does not depend on the run's action and the gradient stays unbiased (Kool et al. 2019, "Buy 4
    REINFORCE samples, get a baseline for free!").

    Args:
        advantages: (T, E).
        peers: (T, E) integers, the same for peers at the same time, -1 without peers.

    >>> relative_to_peers(np.array([[1.0, 3.0, 5.0, 7.0]]), np.array([[0, 0, 0, -1]])).tolist()
    [[-3.0, 0.0, 3.0, 7.0]]
    """
    flat, numbers = advantages.ravel(), peers.ravel() + 1
    counts = np.bincount(numbers)
    totals = np.bincount(numbers, weights=flat)
    others = counts[numbers] - 1
    baseline = (totals[numbers] - flat) / np.maximum(others, 1)
    has_peers = (numbers > 0) & (others > 0)
    return (flat - np.where(has_peers, baseline, 0.0)).reshape(advantages.shape).astype(advantages.dtype)
