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
        buckets: the partition; `regroup` replaces it.
        batch_size: examples per batch, at least 1.
        seed: of the stream; equal seeds give equal draws for equal weights.
    """

    def __init__(self, buckets: Buckets, batch_size: int, seed: int) -> None:
        self._batch_size = batch_size
        # A generator of its own for each bucket: how often one is drawn does not change another's order.
        streams = np.random.SeedSequence(seed).spawn(buckets.count + 1)
        self._quota, *self._shufflers = (np.random.default_rng(stream) for stream in streams)
        self._initial = buckets
        self._drawn_before: npt.NDArray[np.int64] | None = None
        self._set_buckets(buckets)
        self._orders = [np.zeros(0, dtype=np.int64) for _ in self._members]
        self._cursors = np.zeros(buckets.count, dtype=np.int64)
        self._passes = np.zeros(buckets.count, dtype=np.int64)

    def draw(self, weights: Array, num_batches: int = 1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Indices (n, B) of the next n batches and the bucket (n, B) of each, for `weights` (K,) that sum to 1.

        However the batches are divided over calls, the stream is the same.
        """
        offsets = self.offsets(num_batches)
        positions = (offsets[:, None] + np.arange(self._batch_size)) / self._batch_size
        edges = np.cumsum(weights)
        edges /= edges[-1]
        # A position can round to 1.0, which is past the last edge.
        buckets = np.minimum(np.searchsorted(edges, positions, side="right"), len(edges) - 1)
        indices = np.empty_like(buckets)
        for bucket, count in enumerate(np.bincount(buckets.ravel(), minlength=len(edges))):
            if count:
                indices[buckets == bucket] = self.take(bucket, int(count))
        return indices, buckets

    def offsets(self, num_batches: int) -> Array:
        """(n,) uniform numbers in [0, 1), one for each of the next n batches, which place its examples."""
        return self._quota.random(num_batches)

    def take(self, bucket: int, count: int) -> npt.NDArray[np.int64]:
        """(count,) indices of the next examples of `bucket`.

        An engine that draws for many runs calls `offsets` and this, and gets the stream that `draw` gives.
        """
        order, cursor = self._orders[bucket], int(self._cursors[bucket])
        fresh = []
        missing = count - (len(order) - cursor)
        while missing > 0:
            fresh.append(self._shufflers[bucket].permutation(self._members[bucket]))
            missing -= len(fresh[-1])
        if fresh:
            order, cursor = np.concatenate([order[cursor:], *fresh]), 0
            self._passes[bucket] += len(fresh)
        self._orders[bucket], self._cursors[bucket] = order, cursor + count
        return order[cursor : cursor + count]

    def regroup(self, buckets: Buckets) -> None:
        """Go on with another partition of the same examples into as many buckets.

        The next pass over a bucket takes first the examples that were drawn least so far, in random order where
        that is equal: no example is passed over, or repeated early, for having changed its bucket.

        Raises:
            ValueError: another number of examples or of buckets, or a bucket without examples.
        """
        _check_regroup(buckets, self._initial)
        drawn = self._count_draws()
        self._set_buckets(buckets)
        self._drawn_before = drawn
        for bucket, members in enumerate(self._members):
            order = self._shufflers[bucket].permutation(members)
            self._orders[bucket] = order[np.argsort(drawn[order], kind="stable")]
        self._cursors = np.zeros(buckets.count, dtype=np.int64)
        self._passes = np.ones(buckets.count, dtype=np.int64)

    def state_dict(self) -> State:
        """Everything that the next draws depend on, as arrays and plain values.

        Once the stream has been regrouped, that includes the partition: `regrouped` holds its `ids` (n,) and
        how often each example was `drawn` (n,) before it. Until then it is None.
        """
        drawn = self._drawn_before
        return {
            "generators": [rng.bit_generator.state for rng in (self._quota, *self._shufflers)],
            "orders": list(self._orders),
            "cursors": self._cursors.copy(),
            "passes": self._passes.copy(),
            "buckets": self._fingerprint,
            "regrouped": None if drawn is None else {"ids": self._buckets.ids.copy(), "drawn": drawn.copy()},
        }

    def load_state_dict(self, state: State) -> None:
        """Continue where `state_dict` was taken, with the partition of then.

        Raises:
            ValueError: the state is of other data or, if it was never regrouped, of other buckets than those
                that this stream was made with. Nothing has changed then.
        """
        regrouped, buckets = state["regrouped"], self._initial
        if regrouped is not None:
            buckets = Buckets(np.array(regrouped["ids"], dtype=np.int64), self._initial.difficulty)
            _check_regroup(buckets, self._initial)
        if state["buckets"] != _fingerprint(buckets):
            raise ValueError(
                f"the state is of other buckets (sizes {state['buckets'][:-1]}) than this stream's (sizes "
                f"{buckets.sizes.tolist()}): make it with the buckets it was saved with."
            )
        self._set_buckets(buckets)
        self._drawn_before = None if regrouped is None else np.array(regrouped["drawn"], dtype=np.int64)
        for rng, saved in zip((self._quota, *self._shufflers), state["generators"], strict=True):
            rng.bit_generator.state = saved
        self._orders = [np.array(order, dtype=np.int64) for order in state["orders"]]
        self._cursors = np.array(state["cursors"], dtype=np.int64)
        self._passes = np.array(state["passes"], dtype=np.int64)

    def _set_buckets(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._fingerprint = _fingerprint(buckets)
        self._members = [np.flatnonzero(buckets.ids == k) for k in range(buckets.count)]

    def _count_draws(self) -> npt.NDArray[np.int64]:
        """(n,) how often each example was drawn so far.

        Counted only here: a member was drawn once in each pass over its bucket, but for what is left of the last.
        """
        drawn = self._passes[self._buckets.ids]
        for order, cursor in zip(self._orders, self._cursors, strict=True):
            drawn[order[cursor:]] -= 1
        return drawn if self._drawn_before is None else drawn + self._drawn_before


def _fingerprint(buckets: Buckets) -> list[int]:
    return [*buckets.sizes.tolist(), zlib.crc32(buckets.ids.tobytes())]


def _check_regroup(buckets: Buckets, initial: Buckets) -> None:
    if len(buckets) != len(initial) or buckets.count != initial.count:
        raise ValueError(
            f"buckets must divide the same {len(initial)} examples into {initial.count} buckets, got "
            f"{len(buckets)} examples in {buckets.count}: make a new stream for other data."
        )
    if buckets.ids.min() < 0 or buckets.sizes.size > buckets.count or (buckets.sizes == 0).any():
        raise ValueError(
            f"buckets must hold one example each at least, got sizes {buckets.sizes.tolist()}: "
            "make them with Buckets.from_scores, which leaves none empty."
        )
