"""A batch sampler whose bucket weights follow a scheduler."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from rlsched import _check
from rlsched.buckets import Buckets
from rlsched.contract import Array
from rlsched.draws import BucketDraws

if TYPE_CHECKING:
    from rlsched.scheduler import RLScheduler


class CurriculumSampler(Sampler[list[int]]):
    """Batches drawn from buckets with weights that may change from one batch to the next.

    Pass it as `DataLoader(dataset, batch_sampler=sampler)`. With a scheduler, each batch is drawn with the
    scheduler's weights of that moment, and `scheduler.step(losses)` with per-example losses, in the order of
    the batch, tells the policy how each bucket fares. Without one, weights are natural until `set_weights`.

    An epoch is `len(buckets) // batch_size` batches (at least one); the stream goes on from epoch to epoch.

    Args:
        buckets: the partition of the data set, in the data set's order.
        batch_size: examples per batch, in [1, len(buckets)].
        scheduler: an `RLScheduler` that has not stepped yet.
        seed: of the draws, at least 0.

    Raises:
        TypeError, ValueError: naming the argument, its range and the value.
    """

    def __init__(
        self,
        buckets: Buckets,
        batch_size: int,
        scheduler: RLScheduler | None = None,
        *,
        seed: int = 0,
    ) -> None:
        if not isinstance(buckets, Buckets):
            raise TypeError(
                f"buckets must be an rlsched.Buckets, got {type(buckets).__name__}: "
                "make one with Buckets.from_scores or Buckets.from_groups."
            )
        self.buckets = buckets
        self.batch_size = _check.integer("batch_size", batch_size, 1, len(buckets))
        self._draws = BucketDraws(buckets, self.batch_size, _check.integer("seed", seed, 0))
        self._weights = buckets.shares
        self._pending: deque[npt.NDArray[np.int64]] = deque()
        self._scheduler = scheduler
        if scheduler is not None:
            scheduler.attach(self)

    @property
    def weights(self) -> Array:
        """(K,) probabilities with which the next batch is drawn."""
        return self._weights if self._scheduler is None else self._scheduler.bucket_weights

    def set_weights(self, weights: npt.ArrayLike) -> None:
        """Draw from now on with `weights` (K,): non-negative, normalised here, some of them positive."""
        if self._scheduler is not None:
            raise ValueError("weights are set by this sampler's scheduler: make one without a scheduler.")
        values = _check.vector("weights", weights)
        if values.size != self.buckets.count or (values < 0).any() or values.sum() <= 0:
            raise ValueError(
                f"weights must be {self.buckets.count} non-negative numbers, not all zero, "
                f"got {values.tolist()}."
            )
        self._weights = values / values.sum()

    def draw(self) -> npt.NDArray[np.int64]:
        """(B,) indices of the next batch."""
        indices, ids = self._draws.draw(self.weights)
        self._pending.append(ids)
        return indices

    def take_bucket_ids(self, count: int | None) -> npt.NDArray[np.int64] | None:
        """Buckets of the oldest batches not yet accounted for: `count` examples, or one batch if None.

        None if nothing is pending. ValueError if `count` is not a whole number of batches.
        """
        if not self._pending:
            return None
        taken = [self._pending.popleft()]
        while count is not None and self._pending and sum(map(len, taken)) < count:
            taken.append(self._pending.popleft())
        ids = np.concatenate(taken)
        if count is not None and len(ids) != count:
            raise ValueError(
                f"loss must hold one value per example of the step's batches ({len(ids)}), got {count}: "
                "pass the losses of all of them, in order, or a single mean loss."
            )
        return ids

    def __iter__(self) -> Iterator[list[int]]:
        # Batches that an abandoned iterator had drawn ahead will never be stepped on.
        self._pending.clear()
        for _ in range(len(self)):
            yield self.draw().tolist()

    def __len__(self) -> int:
        """Batches per epoch."""
        return max(1, len(self.buckets) // self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """What the next draws depend on; numbers and lists, safe under `weights_only=True`."""
        return {
            "draws": self._draws.state_dict(),
            "weights": self._weights.tolist(),
            "pending": [ids.tolist() for ids in self._pending],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, over the same buckets."""
        self._draws.load_state_dict(state["draws"])
        self._weights = np.asarray(state["weights"], dtype=np.float64)
        self._pending = deque(np.asarray(ids, dtype=np.int64) for ids in state["pending"])
