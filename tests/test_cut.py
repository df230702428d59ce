"""Cutting rows into blocks: against every possible way of cutting them."""

import itertools

import numpy as np
import pytest

from rlsched.envs.population.cut import STEP_OVERHEAD, aligned, cut, work


def cost(sizes, batch_sizes, blocks) -> float:
    """Slow and obvious: every row of a block is as large as its largest."""
    return sum(
        STEP_OVERHEAD + (stop - start) * float(work(sizes[start:stop].max(0), batch_sizes[start:stop].max()))
        for start, stop in blocks
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("chunk", [3, 9])
def test_no_other_cut_costs_less(seed, chunk):
    rng = np.random.default_rng(seed)
    sizes = np.sort(rng.integers(4, 300, (9, 4)), axis=0)
    batch_sizes = 2 ** rng.integers(3, 8, 9)
    chosen = cut(sizes, batch_sizes, chunk)
    assert [start for start, _ in chosen] == [0, *(stop for _, stop in chosen[:-1])]
    assert chosen[-1][1] == 9
    assert all(stop - start <= chunk for start, stop in chosen)
    best = np.inf
    for count in range(9):
        for places in itertools.combinations(range(1, 9), count):
            blocks = list(itertools.pairwise([0, *places, 9]))
            if all(stop - start <= chunk for start, stop in blocks):
                best = min(best, cost(sizes, batch_sizes, blocks))
    assert cost(sizes, batch_sizes, chosen) == pytest.approx(best)


def test_the_work_is_that_of_the_padded_products():
    sizes = np.array([[10, 20, 3], [64, 32, 16]])
    assert aligned(sizes).tolist() == [[10, 32, 16], [64, 32, 16]]
    # Forward, and backward by inputs and weights: two operations each.
    assert work(sizes, np.array([4, 2])).tolist() == [6 * 4 * (320 + 512), 6 * 2 * (2048 + 512)]
