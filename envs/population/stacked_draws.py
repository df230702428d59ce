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
            batch. A smaller batch is filled up with its first example, which is finite if the batch is, and ids
            of -1; so are steps that a row does not have.
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
        # A stable sort of 16-bit integers is a radix sort.
        kind = np.int16 if rows * buckets < 2**15 - 1 else np.int64
        ids = np.zeros(positions.shape, dtype=kind)
        for edge in edges.T[:-1]:
            ids += positions >= edge[:, None, None]
        key = ids + (np.arange(rows) * buckets).astype(kind)[:, None, None]
        used = (np.arange(width) < n_steps[:, None])[:, :, None] & (np.arange(batch) < self._sizes[:, None, None])
        if not used.all():
            ids[~used], key[~used] = -1, rows * buckets
        counts = np.bincount(key.ravel(), minlength=rows * buckets + 1)[:-1]
        taken = [
            self.streams[place // buckets].take(place % buckets, int(counts[place]))
            for place in np.flatnonzero(counts)
        ]
        indices = np.zeros(ids.shape, dtype=np.int64)
        # Stable: in each bucket the order of the batches is kept.
        indices.ravel()[np.argsort(key, axis=None, kind="stable")[: counts.sum()]] = np.concatenate(taken)
        if not used.all():
            indices = np.where(used, indices, indices[:, :, :1])
        return indices, ids
