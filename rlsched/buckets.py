"""A partition of a data set into buckets, the unit of the curriculum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rlsched import _check
from rlsched.contract import Array

if TYPE_CHECKING:
    from rlsched.online import OnlineBuckets


@dataclass(frozen=True, eq=False)
class Buckets:
    """Which bucket each example of a data set belongs to.

    Make one with `from_scores` or `from_groups`.

    Attributes:
        ids: (n,) bucket of each example, in [0, count).
        difficulty: (K,) rank of each bucket in [0, 1], easiest 0; 0.5 throughout if there is no order.
    """

    ids: npt.NDArray[np.int64]
    difficulty: Array

    @classmethod
    def from_scores(cls, scores: npt.ArrayLike, count: int = 4) -> Buckets:
        """Quantiles of a difficulty score, bucket 0 the easiest.

        Args:
            scores: (n,) finite, higher is harder: for example each example's loss under a reference model.
            count: number of buckets K, in [1, n]; they hold n / K examples each, give or take one.
                Ties are split by position.

        >>> Buckets.from_scores([0.3, 9.0, 0.1, 2.0], count=2).ids.tolist()
        [0, 1, 0, 1]
        """
        values = _check.vector("scores", scores, "Give one difficulty score per example.")
        count = _check.integer("count", count, 1, values.size, "A bucket needs at least one example.")
        ids = np.empty(values.size, dtype=np.int64)
        ids[np.argsort(values, kind="stable")] = np.arange(values.size) * count // values.size
        return cls(ids, np.linspace(0.0, 1.0, count) if count > 1 else np.array([0.5]))

    @classmethod
    def from_groups(cls, ids: npt.ArrayLike) -> Buckets:
        """Given groups without an order of difficulty: domains, sources, classes.

        Args:
            ids: (n,) integers, the group of each example; sorted, they become buckets 0, 1, ...

        >>> Buckets.from_groups([7, 3, 7]).ids.tolist()
        [1, 0, 1]
        """
        values = _check.labels("ids", ids, "Give one group per example.")
        groups, compact = np.unique(values, return_inverse=True)
        return cls(compact.astype(np.int64), np.full(groups.size, 0.5))

    @staticmethod
    def online(num_examples: int, count: int = 4, *, seed: int = 0, rate: float = 0.5) -> OnlineBuckets:
        """Buckets that follow the losses of the run itself; see `OnlineBuckets`, which this makes."""
        from rlsched.online import OnlineBuckets

        return OnlineBuckets(num_examples, count, seed=seed, rate=rate)

    def probe(self, per_bucket: int = 16, seed: int = 0) -> npt.NDArray[np.int64]:
        """A fixed random sample of each bucket, on which to measure its loss at any time.

        The mean losses go to `RLScheduler.report_bucket_losses`: unlike those of the examples drawn, they are
        known for every bucket, however rarely it is drawn from, and are of the same examples each time.

        Args:
            per_bucket: examples from each bucket, at least 1; a bucket with fewer gives all it has.
            seed: of the sample, at least 0.

        Returns:
            (m,) indices without repetition, ordered by bucket; m is at most K * per_bucket.

        >>> Buckets.from_groups([7, 3, 7]).probe(per_bucket=2).tolist()
        [1, 0, 2]
        """
        per_bucket = _check.integer("per_bucket", per_bucket, 1)
        rng = np.random.default_rng(_check.integer("seed", seed, 0))
        shuffled = (rng.permutation(np.flatnonzero(self.ids == bucket)) for bucket in range(self.count))
        return np.concatenate([members[:per_bucket] for members in shuffled])

    @property
    def count(self) -> int:
        """Number of buckets K."""
        return int(self.difficulty.size)

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(K,) examples in each bucket, all positive."""
        return np.bincount(self.ids, minlength=self.count)

    @property
    def shares(self) -> Array:
        """(K,) share of each bucket in the data; sums to 1."""
        return self.sizes / self.ids.size

    def __len__(self) -> int:
        """Number of examples n."""
        return int(self.ids.size)
