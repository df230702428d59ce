"""Where to cut rows of different sizes into blocks."""

from __future__ import annotations

import numpy as np

from rlsched.contract import Array

ALIGNMENT = 16
"""Layers are padded to multiples of this: products and softmax over 10 columns take longer than over 16."""
STEP_OVERHEAD = 30e6
"""What a stacked step costs whatever its size, in floating-point operations: about 0.5 ms of them."""


def aligned(sizes: Array) -> Array:
    """Sizes (..., L) of layers as they are padded; the inputs stay as they are."""
    padded = -(-sizes // ALIGNMENT) * ALIGNMENT
    return np.concatenate([sizes[..., :1], padded[..., 1:]], axis=-1)


def work(sizes: Array, batch_sizes: Array) -> Array:
    """(...) floating-point operations of a training step of MLPs with layers of (..., L) `sizes`."""
    padded = aligned(sizes)
    return 6.0 * batch_sizes * (padded[..., :-1] * padded[..., 1:]).sum(axis=-1)


def cut(sizes: Array, batch_sizes: Array, chunk: int) -> list[tuple[int, int]]:
    """(start, stop) of blocks of consecutive rows that cost least, by dynamic programming.

    A block costs an overhead, and for each row the work of the largest sizes in it.

    Args:
        sizes: (n, L) of each row's layers; sort the rows so that similar ones are neighbours.
        batch_sizes: (n,).
        chunk: rows of a block at most.
    """
    # Least cost of the first i rows, and where the last block of that begins.
    best, begins = np.zeros(len(sizes) + 1), np.zeros(len(sizes) + 1, dtype=np.int64)
    for end in range(1, len(sizes) + 1):
        start = max(0, end - chunk)
        # All blocks that end here, the shortest first.
        padded = np.maximum.accumulate(sizes[start:end][::-1], axis=0)
        batch = np.maximum.accumulate(batch_sizes[start:end][::-1])
        rows = np.arange(1, end - start + 1)
        cost = best[start:end][::-1] + STEP_OVERHEAD + rows * work(padded, batch)
        choice = int(np.argmin(cost))
        best[end], begins[end] = cost[choice], end - 1 - choice
    blocks, end = [], len(sizes)
    while end > 0:
        blocks.append((int(begins[end]), end))
        end = int(begins[end])
    return blocks[::-1]
