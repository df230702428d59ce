"""A batch sampler whose bucket weights follow a scheduler."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler

from rlsched import _check
from rlsched.buckets import Buckets
from rlsched.contract import Array
from rlsched.draws import BucketDraws

if TYPE_CHECKING:
    from rlsched.scheduler import RLScheduler


MAX_PENDING = 1024
"""Batches drawn ahead of `scheduler.step`; more means that steps do not account for the batches they use."""


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
        batches_per_step: batches that one `scheduler.step` accounts for, at least 1: more than 1 where gradients
            are accumulated. `step` then takes the losses of all of them, in order, or one mean.

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
        batches_per_step: int = 1,
    ) -> None:
        if not isinstance(buckets, Buckets):
            raise TypeError(
                f"buckets must be an rlsched.Buckets, got {type(buckets).__name__}: "
                "make one with Buckets.from_scores or Buckets.from_groups."
            )
        if scheduler is not None and not hasattr(scheduler, "attach"):
            raise TypeError(f"scheduler must be an rlsched.RLScheduler, got {type(scheduler).__name__}.")
        self.buckets = buckets
        self.batch_size = _check.integer("batch_size", batch_size, 1, len(buckets))
        self.batches_per_step = _check.integer("batches_per_step", batches_per_step, 1)
        self._draws = BucketDraws(buckets, self.batch_size, _check.integer("seed", seed, 0))
        self._weights = buckets.shares
        self._pending: deque[npt.NDArray[np.int64]] = deque()
        self._exhausted = True
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
                f"weights must be {self.buckets.count} non-negative numbers, not all zero, got {values.tolist()}."
            )
        self._weights = values / values.sum()

    def draw(self) -> npt.NDArray[np.int64]:
        """(B,) indices of the next batch."""
        (indices,), (ids,) = self._draws.draw(self.weights)
        if self._scheduler is not None:
            if len(self._pending) >= MAX_PENDING:
                raise ValueError(
                    f"{MAX_PENDING} batches were drawn that no scheduler.step accounted for: call it once per "
                    "optimizer step, and give batches_per_step if a step uses several batches."
                )
            self._pending.append(ids)
        return indices

    def take_bucket_ids(self, num_losses: int) -> npt.NDArray[np.int64] | None:
        """Buckets (n,) of the examples of the oldest `batches_per_step` batches, which are now accounted for.

        The scheduler calls this once a step. None if `num_losses` is 1 and the examples are more: a mean loss
        says nothing of buckets. ValueError if it is neither 1 nor the number of examples.
        """
        count = min(self.batches_per_step, len(self._pending))
        if count == 0:
            return None
        ids = np.concatenate(list(itertools.islice(self._pending, count)))
        if num_losses in (1, len(ids)):
            for _ in range(count):
                self._pending.popleft()
            return ids if num_losses == len(ids) else None
        raise ValueError(
            f"loss must hold one value per example of the step's {count} batches ({len(ids)}), got {num_losses}: "
            "pass the losses of all of them, in order, or a single mean loss."
        )

    def __iter__(self) -> Iterator[list[int]]:
        if not self._exhausted:
            # Batches that an abandoned iterator had drawn ahead will never be stepped on.
            self._pending.clear()
        self._exhausted = False
        for _ in range(len(self)):
            yield self.draw().tolist()
        self._exhausted = True

    def __len__(self) -> int:
        """Batches per epoch."""
        return max(1, len(self.buckets) // self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """What the next draws depend on; tensors and plain values, safe under `weights_only=True`.

        It is the state of the stream, not of an epoch: an epoch that was under way starts anew. Batches that
        workers of a `DataLoader` had drawn ahead are not drawn again, so only a loader with `num_workers=0`
        goes on exactly as if it had not been interrupted.
        """
        draws = self._draws.state_dict()
        draws["orders"] = [torch.from_numpy(order.copy()) for order in draws["orders"]]
        draws["cursors"] = torch.from_numpy(draws["cursors"])
        return {
            "draws": draws,
            "weights": torch.from_numpy(self._weights.copy()),
            "pending": [torch.from_numpy(ids) for ids in self._pending],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; ValueError if it is no sampler's, or was over other buckets."""
        if not isinstance(state, dict) or set(state) != {"draws", "weights", "pending"}:
            raise ValueError("the state is not one of a CurriculumSampler: load what its state_dict() returned.")
        draws = dict(state["draws"])
        draws["orders"] = [order.cpu().numpy() for order in draws["orders"]]
        draws["cursors"] = draws["cursors"].cpu().numpy()
        self._draws.load_state_dict(draws)
        self._weights = state["weights"].cpu().numpy().copy()
        self._pending = deque(ids.cpu().numpy().copy() for ids in state["pending"])
