"""The data of stacked runs, as the stack of their models wants them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from rlsched.contract import Array
from rlsched.envs.population.network import Network
from rlsched.envs.tasks.task import Task


class StackedData:
    """Training data of all rows one after another, and their held-out parts side by side.

    Rows of one task share their data.

    Args:
        tasks: of each row.
        network: of their models.
    """

    def __init__(self, tasks: Sequence[Task], network: Network) -> None:
        self._tasks, self._network = list(tasks), network
        parts: list[tuple[Tensor, ...]] = []
        begins: dict[int, int] = {}
        size = 0
        for task in tasks:
            for data in (task.train, task.drifted):
                if data is not None and id(data) not in begins:
                    assert isinstance(data, TensorDataset)
                    begins[id(data)] = size
                    size += len(data)
                    parts.append(network.pad(data.tensors))
        self._joined = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
        # Where a row's data begin, and those of before its drift.
        self._first = np.array([begins[id(task.train)] for task in tasks])
        drifted = [task.train if task.drifted is None else task.drifted for task in tasks]
        self._drift_first = np.array([begins[id(data)] for data in drifted])
        self._drift_until = np.array([task.drift_until for task in tasks])
        self.weights = self._mean_weights([task.config.batch_size for task in tasks])
        """(r, B) weights that make means over each row's own number of examples in a batch."""
        self._parts: dict[str, tuple[list[Tensor], Array]] = {}

    def places(self, indices: Array, step: Array) -> Tensor:
        """(W, r, B) where the examples (r, W, B) lie that the steps from `step` (r,) on draw."""
        steps = step[:, None] + np.arange(indices.shape[1])
        drifting = steps < self._drift_until[:, None]
        first = np.where(drifting, self._drift_first[:, None], self._first[:, None])
        places = np.ascontiguousarray((indices + first[:, :, None]).transpose(1, 0, 2))
        return torch.from_numpy(places).to(self._network.device)

    def batch(self, places: Tensor) -> list[Tensor]:
        """The examples (r, B, ...) at `places` (r, B)."""
        flat = places.view(-1)
        return [values.index_select(0, flat).view(*places.shape, *values.shape[1:]) for values in self._joined]

    def losses(self, name: str) -> Array:
        """(r, V) losses on each row's "validation", "test" or "probe" examples; padding at the end."""
        return np.asarray(self._network.losses(self._part(name)[0]).double().cpu().numpy())

    def mean_losses(self, name: str) -> Array:
        """(r,) their means."""
        losses, weights = self.losses(name), self._part(name)[1]
        with np.errstate(invalid="ignore"):  # of a row that has diverged
            return np.asarray((losses * weights).sum(axis=1))

    def _part(self, name: str) -> tuple[list[Tensor], Array]:
        if name not in self._parts:
            rows = [self._network.pad(_held(task, name)) for task in self._tasks]
            sizes = [len(tensors[0]) for tensors in rows]
            # Filled up with the first example, which is finite if the others are.
            places = torch.arange(max(sizes), device=self._network.device)
            fill = [places.where(places < size, 0) for size in sizes]
            joined = [
                torch.stack([values[index] for values, index in zip(part, fill, strict=True)])
                for part in zip(*rows, strict=True)
            ]
            self._parts[name] = joined, self._mean_weights(sizes).double().cpu().numpy()
        return self._parts[name]

    def _mean_weights(self, sizes: Sequence[int]) -> Tensor:
        weights = torch.zeros(len(sizes), max(sizes), dtype=self._network.dtype)
        for row, size in enumerate(sizes):
            weights[row, :size] = 1.0 / size
        return weights.to(self._network.device)


def _held(task: Task, name: str) -> Sequence[Tensor]:
    if name != "probe":
        part: Sequence[Tensor] = getattr(task, name)
        return part
    assert isinstance(task.train, TensorDataset)
    # A row without a probe stands in with one example.
    index = torch.zeros(1, dtype=torch.int64) if task.probe is None else torch.from_numpy(task.probe)
    return [values[index] for values in task.train.tensors]
