"""When a run decides: often at first, then at an even spacing."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from rlsched import _check


def decision_steps(num_steps: int, num_decisions: int) -> npt.NDArray[np.int64]:
    """Steps at which a run of `num_steps` steps takes its `num_decisions` decisions.

    The windows are 1, 1, 2, 4, ... steps long until they reach an even spacing, which they keep: a misjudged
    base learning rate is corrected within the first few steps, at no cost to the rest of the run. At most
    `num_short_windows` of them are shorter than the even spacing; in a long run with few decisions they
    therefore grow faster than by doubling.

    Args:
        num_steps: T, at least 2.
        num_decisions: N, in [1, T - 1].

    Returns:
        (N,) strictly increasing steps, the first 1 and the last below T.

    >>> decision_steps(100, 8).tolist()
    [1, 2, 4, 11, 29, 46, 64, 82]
    """
    num_steps = _check.integer("num_steps", num_steps, 2)
    num_decisions = _check.integer(
        "num_decisions", num_decisions, 1, num_steps - 1, "There is at most one decision per step."
    )
    return _decision_steps(num_steps, num_decisions).copy()


@functools.lru_cache(maxsize=4096)
def _decision_steps(num_steps: int, num_decisions: int) -> npt.NDArray[np.int64]:
    # Their sum grows with the even spacing; find the spacing at which it is num_steps.
    low, high = 1.0, float(num_steps)
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if _widths(middle, num_decisions).sum() < num_steps else (low, middle)
    ends = np.floor(np.cumsum(_widths(high, num_decisions)) + 1e-6).astype(np.int64)
    return ends[:-1]


def num_short_windows(num_decisions: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """How many windows may be shorter than the even spacing: the opening, and half of the rest."""
    return (num_decisions + 1) // 2


def _widths(even: float, num_decisions: int) -> npt.NDArray[np.float64]:
    """(N + 1,) widths of the windows for an even spacing of `even`: the opening's 1, then 1 and growing."""
    short = int(num_short_windows(np.asarray(num_decisions)))
    growth = max(2.0, even ** (1.0 / (short - 1))) if short > 1 else np.inf
    exponent = np.arange(num_decisions, dtype=np.float64)
    later = np.full(num_decisions, even)
    later[: short - 1] = np.minimum(growth ** exponent[: short - 1], even)
    return np.concatenate([[1.0], later])
