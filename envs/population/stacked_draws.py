"""The batches of many runs, drawn together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlsched.contract import Array
from rlsched.draws import BucketDraws


class StackedDraws:
    """Draws for every row what its own `BucketDraws` would, in a few operations over all of them.

    Args:
        streams: of each row, all over the same number of buckets.
        batch_sizes: of each row.
    """

    def __init__(self, streams: Sequence[BucketDraws], batch_sizes: Sequence[int]) -> None:
        self.streams = list(streams)
        self._sizes = np.array(batch_sizes)

    def draw(self, weights: Array, n_steps: Array) -> tuple[Array, Array]:
        """The batches of the coming `n_steps` (r,) steps, for `weights` (r, K) that sum to 1.

        Returns:
            indices (r, W, B) of examples and ids (r, W, B) of their buckets, W the most steps and B the largest
            batch; where a row has fewer of either, 0 and -1.
        """
        rows, buckets = weights.shape
        width, batch = int(n_steps.max()), int(self._sizes.max())
        offsets = np.zeros((rows, width))
        for row, n in enumerate(n_steps):
            if n:
                offsets[row, :n] = self.streams[row].offsets(int(n))
        positions = (offsets[:, :, None] + np.arange(batch)) / self._sizes[:, None, None]
        edges = np.cumsum(weights, axis=1)
        edges /= edges[:, -1:]
        ids = np.zeros(positions.shape, dtype=np.int16)
        for edge in edges.T[:-1]:
            ids += positions >= edge[:, None, None]
        key = ids + np.arange(rows, dtype=np.int16)[:, None, None] * np.int16(buckets)
        used = (np.arange(width) < n_steps[:, None])[:, :, None] & (np.arange(batch) < self._sizes[:, None, None])
        if not used.all():
            ids[~used], key[~used] = -1, rows * buckets
        counts = np.bincount(key.ravel(), minlength=rows * buckets + 1)[:-1]
        taken = [
            self.streams[place // buckets].take(place % buckets, int(counts[place]))
            for place in np.flatnonzero(counts)
        ]
        indices = np.zeros(ids.shape, dtype=np.int64)
        # A stable sort of 16-bit integers is a radix sort; in each bucket it keeps the order of the batches.
        indices.ravel()[np.argsort(key, axis=None, kind="stable")[: counts.sum()]] = np.concatenate(taken)
        return indices, ids
