"""Buckets that follow the losses of the run they serve."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlsched import _check
from rlsched.buckets import Buckets
from rlsched.contract import Array


class OnlineBuckets:
    """Quantiles of each example's running loss, bucket 0 the easiest, renewed as the run goes on.

    They need no scores and no reference training: give one to a `CurriculumSampler` in place of `Buckets`, and
    per-example losses to `RLScheduler.step`. At each decision the examples are divided anew. By hand, call
    `record` after each step and `CurriculumSampler.refresh` whenever the buckets shall change.

    The running loss of an example is its first recorded loss, and from then on moves by
    `rate * (loss - running)` with each. An example is placed by the rank of its running loss among the examples
    seen so far, one that was not seen yet by a uniform random number of its own: the unseen are spread evenly
    over the buckets, so that each is drawn from the whole data until more is known. Bucket k always is the k-th
    quantile; what it means (its place in the order of difficulty) stays, while its members change.

    It is the raw loss, because ranks need no scale and the alternatives say less: the change of one example's loss
    between two draws is mostly noise, and a loss relative to a reference model's needs the reference. Its
    weakness: an example that was not drawn for long keeps an old loss and, as losses fall, seems harder than it
    is. A policy's floor under the bucket weights bounds how long that lasts, and a higher `rate` forgets faster
    once it is drawn. As with any score by loss, mislabelled examples count as hard.

    Args:
        num_examples: examples in the data set, n, at least 1.
        count: number of buckets K, in [1, n]; they hold n / K examples each, give or take one.
        seed: of the random numbers that place unseen examples, at least 0.
        rate: weight of the newest loss in the running loss, in (0, 1]: 1 keeps only the newest.

    Raises:
        TypeError, ValueError: naming the argument, its range and the value.

    >>> online = OnlineBuckets(4, count=2)
    >>> online.record([0, 1, 2, 3], [0.3, 9.0, 0.1, 2.0])
    >>> online.refresh().ids.tolist()
    [0, 1, 0, 1]
    """

    def __init__(self, num_examples: int, count: int = 4, *, seed: int = 0, rate: float = 0.5) -> None:
        size = _check.integer("num_examples", num_examples, 1)
        self._count = _check.integer("count", count, 1, size, "A bucket needs at least one example.")
        self._seed = _check.integer("seed", seed, 0)
        self._rate = _check.real("rate", rate, 1e-6, 1.0, "It is the weight of the newest loss.")
        self._running = np.full(size, np.nan)
        self._unseen_scores = np.random.default_rng(self._seed).random(size)
        self._buckets = self.refresh()

    @property
    def buckets(self) -> Buckets:
        """The partition since the last `refresh`; at first a random one."""
        return self._buckets

    @property
    def count(self) -> int:
        """Number of buckets K."""
        return self._count

    @property
    def running_loss(self) -> Array:
        """(n,) running loss of each example; NaN where none was recorded."""
        return self._running.copy()

    def record(self, indices: npt.ArrayLike, losses: npt.ArrayLike) -> None:
        """Account for losses that were measured. The buckets stay as they are until `refresh`.

        Args:
            indices: (B,) of the examples, in [0, n); one that is repeated counts as often, in the order given.
            losses: (B,) one for each; those that are not finite are left out.

        Raises:
            TypeError, ValueError: naming the argument, its range and the value.
        """
        if np.asarray(indices).dtype == bool:
            raise TypeError("indices must be integers, got a mask: pass numpy.flatnonzero(mask).")
        index = _check.labels("indices", indices)
        values = _check.losses("losses", losses, index.size, "Give one loss per index, without averaging.")
        if index.min() < 0 or index.max() >= len(self):
            wrong = index[(index < 0) | (index >= len(self))][0]
            raise _check.ArgumentError(
                f"indices must be in [0, {len(self) - 1}], got {wrong}: "
                "they are positions in the data set that these buckets were made for."
            )
        known = np.isfinite(values)
        index, values = index[known], values[known]
        while index.size:
            # Each round takes the first loss that is left of every example; nearly always there is one round.
            _, first = np.unique(index, return_index=True)
            rows, now = index[first], values[first]
            before = self._running[rows]
            self._running[rows] = np.where(np.isnan(before), now, before + self._rate * (now - before))
            index, values = np.delete(index, first), np.delete(values, first)

    def refresh(self) -> Buckets:
        """Divide the examples anew by what was recorded, and return the buckets.

        Ties are split by position, as in `Buckets.from_scores`.
        """
        scores = self._unseen_scores.copy()
        seen = np.flatnonzero(~np.isnan(self._running))
        # To six digits: between copies of one example, rounding errors must not decide.
        mantissa, exponent = np.frexp(self._running[seen])
        ranked = seen[np.argsort(np.ldexp(np.round(mantissa, 6), exponent), kind="stable")]
        scores[ranked] = (np.arange(seen.size) + 0.5) / max(1, seen.size)
        self._buckets = Buckets.from_scores(scores, self._count)
        return self._buckets

    def __len__(self) -> int:
        """Number of examples n."""
        return int(self._running.size)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue, as arrays and plain numbers."""
        return {
            "count": self._count,
            "seed": self._seed,
            "rate": self._rate,
            "running": self._running.copy(),
            "ids": self._buckets.ids.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; seed and rate are taken from it.

        Raises:
            ValueError: it is no state of this class, or of another number of examples or buckets. Nothing has
                changed then.
        """
        if not isinstance(state, dict) or set(state) != {"count", "seed", "rate", "running", "ids"}:
            raise ValueError("the state is not one of OnlineBuckets: load what its state_dict() returned.")
        found = (len(state["running"]), state["count"])
        if found != (len(self), self._count):
            raise ValueError(
                f"the state is of {found[0]} examples in {found[1]} buckets, this has {len(self)} in "
                f"{self._count}: make it as in the saved run before loading."
            )
        self._seed, self._rate = int(state["seed"]), float(state["rate"])
        self._running = np.array(state["running"], dtype=np.float64)
        self._unseen_scores = np.random.default_rng(self._seed).random(len(self))
        self._buckets = Buckets(np.array(state["ids"], dtype=np.int64), self._buckets.difficulty)
