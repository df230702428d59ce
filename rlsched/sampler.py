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

from rlsched import _check, ranks
from rlsched.buckets import Buckets
from rlsched.contract import Array
from rlsched.draws import BucketDraws
from rlsched.online import OnlineBuckets
from rlsched.tensors import Losses, to_arrays, to_tensors

if TYPE_CHECKING:
    from rlsched.scheduler import RLScheduler


MAX_PENDING = 1024
"""Batches drawn ahead of `scheduler.step`; more means that steps do not account for the batches they use."""


class CurriculumSampler(Sampler[list[int]]):
    """Batches drawn from buckets with weights that may change from one batch to the next.

    Pass it as `DataLoader(dataset, batch_sampler=sampler)`. With a scheduler, each batch is drawn with the
    scheduler's weights of that moment, and `scheduler.step(losses)` with per-example losses, in the order of
    the batch, tells the policy how each bucket fares. Without one, weights are natural until `set_weights`.

    With `OnlineBuckets` the losses also move examples between buckets: the scheduler calls `refresh` at each
    decision. Without a scheduler, call their `record` and this `refresh`.

    An epoch is `len(buckets) // batch_size` batches (at least one); the stream goes on from epoch to epoch.

    Under `torch.distributed` all ranks draw the same batches of `batch_size * ranks` examples, and each takes its
    share of them: no example goes to two ranks. Make the sampler after `init_process_group`, with equal arguments
    on all ranks.

    Attributes:
        drawn: batches so far, by this object.

    Args:
        buckets: the partition of the data set, in the data set's order: `Buckets`, or `OnlineBuckets`, of which
            each sampler needs its own.
        batch_size: examples per batch of a rank, in [1, len(buckets) // ranks].
        scheduler: an `RLScheduler` that has not stepped yet.
        seed: of the draws, at least 0.
        batches_per_step: batches that one `scheduler.step` accounts for, at least 1: more than 1 where gradients
            are accumulated. `step` then takes the losses of all of them, in order, or one mean.

    Raises:
        TypeError, ValueError: naming the argument, its range and the value.
    """

    def __init__(
        self,
        buckets: Buckets | OnlineBuckets,
        batch_size: int,
        scheduler: RLScheduler | None = None,
        *,
        seed: int = 0,
        batches_per_step: int = 1,
    ) -> None:
        if not isinstance(buckets, Buckets | OnlineBuckets):
            raise TypeError(
                f"buckets must be an rlsched.Buckets or rlsched.OnlineBuckets, got {type(buckets).__name__}: "
                "make one with Buckets.from_scores, Buckets.from_groups or OnlineBuckets(len(dataset))."
            )
        if scheduler is not None and not hasattr(scheduler, "attach"):
            raise TypeError(f"scheduler must be an rlsched.RLScheduler, got {type(scheduler).__name__}.")
        self._source = buckets
        self.num_ranks, self.rank = ranks.size(), ranks.rank()
        self.batch_size = _check.integer("batch_size", batch_size, 1, len(buckets) // self.num_ranks)
        self.batches_per_step = _check.integer("batches_per_step", batches_per_step, 1)
        self._draws = BucketDraws(self.buckets, self.batch_size * self.num_ranks, _check.integer("seed", seed, 0))
        self._weights = self.buckets.shares
        # The examples of each batch that no step accounted for yet, of all ranks, and the buckets they were drawn
        # from: (2, ranks * B).
        self._pending: deque[npt.NDArray[np.int64]] = deque()
        self.drawn = 0
        self._exhausted = True
        self._scheduler = scheduler
        if scheduler is not None:
            scheduler.attach(self)

    @property
    def buckets(self) -> Buckets:
        """The partition from which the next batch is drawn."""
        return self._source.buckets if isinstance(self._source, OnlineBuckets) else self._source

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
        """(B,) indices of the next batch of this rank."""
        (indices,), (ids,) = self._draws.draw(self.weights)
        self.drawn += 1
        if self._scheduler is not None:
            if len(self._pending) >= MAX_PENDING:
                raise ValueError(
                    f"{MAX_PENDING} batches were drawn that no scheduler.step accounted for: call it once per "
                    "optimizer step, and give batches_per_step if a step uses several batches."
                )
            self._pending.append(np.stack([indices, ids]))
        return indices[self.rank :: self.num_ranks]

    def refresh(self) -> None:
        """Divide the examples anew by the losses that `OnlineBuckets` recorded; fixed `Buckets` stay as they are.

        An attached scheduler calls this at each decision. Batches that were drawn before count for the buckets
        they were drawn from.
        """
        if isinstance(self._source, OnlineBuckets):
            self._draws.regroup(self._source.refresh())

    def account_for(self, losses: Losses | None) -> tuple[Losses | None, npt.NDArray[np.int64] | None]:
        """Account for the oldest `batches_per_step` batches by their `losses` (n,), one mean, or None.

        The scheduler calls this once a step. The losses of all ranks are gathered. `OnlineBuckets` record them.

        Returns:
            the losses (n * ranks,), or their mean, or None; and the bucket (n * ranks,) that each example
            was drawn from, or None with a mean, which says nothing of buckets, and where no batch is pending.

        Raises:
            ValueError: `losses` are neither one nor as many as the examples, or `OnlineBuckets` get only a mean.
        """
        count = min(self.batches_per_step, len(self._pending))
        if count == 0:
            return ranks.mean_loss(losses), None
        indices, ids = np.concatenate(list(itertools.islice(self._pending, count)), axis=1)
        size, expected = 1 if losses is None else np.size(losses), len(ids) // self.num_ranks
        if size not in (1, expected):
            raise ValueError(
                f"loss must hold one value per example of the step's {count} batches ({expected}), got {size}: "
                "pass the losses of all of them, in order, or a single mean loss."
            )
        complete = losses is not None and size == expected
        if losses is not None and complete:
            # In the order of the batches: a rank's examples are not next to each other in them.
            gathered = ranks.gather(np.atleast_1d(losses))
            losses = gathered.reshape(self.num_ranks, count, -1).transpose(1, 2, 0).reshape(-1)
        else:
            losses = ranks.mean_loss(losses)
        if isinstance(self._source, OnlineBuckets):
            if losses is None or not complete:
                raise ValueError(
                    f"loss must hold one value per example ({expected}) for OnlineBuckets, got "
                    f"{'None' if losses is None else 'one mean'}: pass the losses of the batch without averaging "
                    '(reduction="none"), or give the sampler fixed Buckets.'
                )
            self._source.record(indices, losses)
        for _ in range(count):
            self._pending.popleft()
        return losses, ids if complete else None

    def __iter__(self) -> Iterator[list[int]]:
        if not self._exhausted or len(self._pending) >= self.batches_per_step:
            # Batches that an abandoned iterator, or its workers, had drawn ahead will never be stepped on.
            self._pending.clear()
        self._exhausted = False
        for _ in range(len(self)):
            yield self.draw().tolist()
        self._exhausted = True

    def __len__(self) -> int:
        """Batches per epoch."""
        return max(1, len(self.buckets) // (self.batch_size * self.num_ranks))

    def state_dict(self) -> dict[str, Any]:
        """What the next draws depend on; tensors and plain values, safe under `weights_only=True`.

        It is the state of the stream, not of an epoch: an epoch that was under way starts anew. Batches that
        workers of a `DataLoader` had drawn ahead are not drawn again, so only a loader with `num_workers=0`
        goes on exactly as if it had not been interrupted.
        """
        source = self._source
        return {
            "draws": to_tensors(self._draws.state_dict()),
            "weights": torch.from_numpy(self._weights.copy()),
            "pending": to_tensors(list(self._pending)),
            "online": to_tensors(source.state_dict()) if isinstance(source, OnlineBuckets) else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; ValueError if it is no sampler's, or was over other buckets."""
        if not isinstance(state, dict) or set(state) != {"draws", "weights", "pending", "online"}:
            raise ValueError("the state is not one of a CurriculumSampler: load what its state_dict() returned.")
        state, source = to_arrays(state), self._source
        widths = {batch.shape[1] for batch in state["pending"]} - {self.batch_size * self.num_ranks}
        if widths:
            raise ValueError(
                f"the state is of batches of {widths.pop()} examples on all ranks, this sampler's have "
                f"{self.batch_size * self.num_ranks}: make it with the batch size and the ranks of that run."
            )
        if (state["online"] is not None) != isinstance(source, OnlineBuckets):
            raise ValueError(
                f"the state is of a sampler of {'fixed Buckets' if state['online'] is None else 'OnlineBuckets'}, "
                f"this one's are {type(source).__name__}: make it as in the saved run."
            )
        if isinstance(source, OnlineBuckets):
            source.load_state_dict(state["online"])
            # Anew, over the buckets of the state: those that this sampler began with depend on another seed.
            self._draws = BucketDraws(source.buckets, self.batch_size * self.num_ranks, seed=0)
        self._draws.load_state_dict(state["draws"])
        self._weights = state["weights"]
        self._pending = deque(state["pending"])
