"""Which examples a run trains on, and when."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlsched import Buckets, OnlineBuckets
from rlsched.contract import Array
from rlsched.draws import BucketDraws
from rlsched.envs.tasks.task import Task


class DataOrder:
    """The draws of one run, and its buckets where they follow the run's losses. Every engine uses it.

    Args:
        task: whose data are drawn.
        seed: of the draws.
    """

    def __init__(self, task: Task, seed: int) -> None:
        config = task.config
        self._task = task
        self._online = (
            OnlineBuckets(len(task.buckets), task.buckets.count, seed=config.data_seed) if task.online else None
        )
        self.draws = BucketDraws(self.buckets, config.batch_size, seed)

    @property
    def buckets(self) -> Buckets:
        """The present partition of the training data."""
        return self._task.buckets if self._online is None else self._online.buckets

    def bucket_means(self, losses: Array) -> Array:
        """(K,) mean in each bucket of losses (P,) on the task's probe; NaN where it has no example."""
        ids, count = self.buckets.ids[self._task.probe], self.buckets.count
        total = np.bincount(ids, weights=losses, minlength=count)
        members = np.bincount(ids, minlength=count)
        return np.where(members > 0, total / np.maximum(members, 1), np.nan)

    def close_window(self, indices: Array, losses: Array) -> None:
        """The end of a window that trained on `indices` with `losses`, both in the order drawn."""
        if self._online is not None:
            if indices.size:
                self._online.record(indices.ravel(), losses.ravel())
            self.draws.regroup(self._online.refresh())

    def state_dict(self) -> dict[str, Any]:
        """Everything the next draws depend on."""
        return {
            "draws": self.draws.state_dict(),
            "online": None if self._online is None else self._online.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.draws.load_state_dict(state["draws"])
        if self._online is not None:
            self._online.load_state_dict(state["online"])
