"""What a benchmark measures, and how it is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        name: what was measured.
        value: of ours.
        unit: of `value` and `baseline`.
        baseline: what it is compared with, measured in the same run, or a limit.
        ratio: how many times better than the baseline where the unit is of time or rate, else value / baseline.
    """

    name: str
    value: float
    unit: str
    baseline: float
    ratio: float


def seconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(baseline: Callable[[], object], ours: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of both after a warm-up, called in turns, so that a busy moment hits both."""
    before, after = all_in_turns([baseline, ours], rounds)
    return before, after


def all_in_turns(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The same of any number of them."""
    for work in works:
        work()
    return [
        float(value) for value in np.median([[seconds(work) for work in works] for _ in range(rounds)], axis=0)
    ]


def matmul_rate() -> float:
    """FLOP/s of a 512 x 512 product on one thread, the best of a few: what the machine could do."""
    a, b = torch.randn(512, 512), torch.randn(512, 512)
    return 2 * 512**3 / min(seconds(lambda: a @ b) for _ in range(20))
