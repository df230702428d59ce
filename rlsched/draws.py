"""Weighted draws from buckets."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from rlsched.buckets import Buckets
from rlsched.contract import Array, State


class BucketDraws:
    """An endless stream of batches whose examples come from buckets with given probabilities.

    The number of examples from each bucket is set by systematic sampling (one uniform number a batch), so it
    differs from `batch_size * weight` by less than one and equals it on average. Within a bucket examples
    come without replacement, reshuffled when the bucket is used up. With natural weights this is the
    familiar shuffled pass over the data, stratified.

    Args:
        buckets: the partition.
        batch_size: examples per batch, at least 1.
        seed: of the stream; equal seeds give equal draws for equal weights.
    """

    def __init__(self, buckets: Buckets, batch_size: int, seed: int) -> None:
        self._batch_size = batch_size
        self._fingerprint = [*buckets.sizes.tolist(), zlib.crc32(buckets.ids.tobytes())]
        self._members = [np.flatnonzero(buckets.ids == k) for k in range(buckets.count)]
        # A generator of its own for each bucket: how often one is drawn does not change another's order.
        streams = np.random.SeedSequence(seed).spawn(buckets.count + 1)
        self._quota, *self._shufflers = (np.random.default_rng(stream) for stream in streams)
        self._orders = [np.zeros(0, dtype=np.int64) for _ in self._members]
        self._cursors = np.zeros(buckets.count, dtype=np.int64)

    def draw(self, weights: Array, num_batches: int = 1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Indices (n, B) of the next n batches and the bucket (n, B) of each, for `weights` (K,) that sum to 1.

        However the batches are divided over calls, the stream is the same.
        """
        offsets = self._quota.random(num_batches)
        positions = (offsets[:, None] + np.arange(self._batch_size)) / self._batch_size
        edges = np.cumsum(weights)
        edges /= edges[-1]
        # A position can round to 1.0, which is past the last edge.
        buckets = np.minimum(np.searchsorted(edges, positions, side="right"), len(edges) - 1)
        indices = np.empty_like(buckets)
        for bucket, count in enumerate(np.bincount(buckets.ravel(), minlength=len(edges))):
            if count:
                indices[buckets == bucket] = self._take(bucket, int(count))
        return indices, buckets

    def _take(self, bucket: int, count: int) -> npt.NDArray[np.int64]:
        order, cursor = self._orders[bucket], int(self._cursors[bucket])
        fresh = []
        missing = count - (len(order) - cursor)
        while missing > 0:
            fresh.append(self._shufflers[bucket].permutation(self._members[bucket]))
            missing -= len(fresh[-1])
        if fresh:
            order, cursor = np.concatenate([order[cursor:], *fresh]), 0
        self._orders[bucket], self._cursors[bucket] = order, cursor + count
        return order[cursor : cursor + count]

    def state_dict(self) -> State:
        """Everything that the next draws depend on, as arrays and plain values."""
        return {
            "generators": [rng.bit_generator.state for rng in (self._quota, *self._shufflers)],
            "orders": list(self._orders),
            "cursors": self._cursors.copy(),
            "buckets": self._fingerprint,
        }

    def load_state_dict(self, state: State) -> None:
        """Continue where `state_dict` was taken; ValueError if it is of other buckets."""
        if state["buckets"] != self._fingerprint:
            saved, found = state["buckets"][:-1], self._fingerprint[:-1]
            raise ValueError(
                f"the state is of other buckets (sizes {saved}) than this stream's (sizes {found}): "
                "make it with the buckets it was saved with."
            )
        for rng, saved in zip((self._quota, *self._shufflers), state["generators"], strict=True):
            rng.bit_generator.state = saved
        self._orders = [np.array(order, dtype=np.int64) for order in state["orders"]]
        self._cursors = np.array(state["cursors"], dtype=np.int64)
