"""Pieces that schedules are made of: phases of a run, and ways to fall from 1 to 0 in one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from rlsched.contract import Array

EDGE = 1e-9
"""Progress is a quotient of integers: what is this close to an edge lies on it."""

FALLS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: 1.0 - x,
    "cosine": lambda x: 0.5 * (1.0 + np.cos(np.pi * x)),
    "1-sqrt": lambda x: 1.0 - np.sqrt(x),
    "square": lambda x: 1.0 - x**2,
    "exponential": lambda x: np.expm1(1.0 - x) / np.expm1(1.0),
    "inverse-sqrt": lambda x: 1.0 - (1.0 - (1.0 + 10.0 * x) ** -0.5) / (1.0 - 11.0**-0.5),
}
"""Name -> how it falls from 1 at x = 0 to 0 at x = 1."""


def phase(progress: Array, start: float, end: float) -> Array:
    """Share of the stretch from `start` to `end` that is done: 0 before it, 1 after it, exact at both.

    A stretch without length is done as soon as it begins.

    >>> phase(np.array([0.0, 0.5, 0.625, 1.0]), 0.5, 0.75).tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    if end - start < EDGE:
        return np.where(begun(progress, start), 1.0, 0.0)
    return np.clip(1.0 - (end - progress) / (end - start), 0.0, 1.0)


def begun(progress: Array, start: float) -> Array:
    """Whether what begins at `start` has begun."""
    return progress >= start - EDGE


def through(progress: Array, knots: Sequence[tuple[float, float]], fall: Callable[[Array], Array]) -> Array:
    """A curve through `knots` (time, level), in order of time from 0 to 1, with `fall` from each to the next.

    >>> through(np.array([0.0, 0.25, 0.5, 1.0]), [(0.0, 0.2), (0.5, 1.0), (1.0, 0.0)], FALLS["linear"]).tolist()
    [0.2, 0.6, 1.0, 0.0]
    """
    value = np.full_like(progress, knots[0][1], dtype=np.float64)
    for (start, first), (end, last) in itertools.pairwise(knots):
        share = fall(phase(progress, start, end))
        value = np.where(begun(progress, start), first * share + last * (1.0 - share), value)
    return value
