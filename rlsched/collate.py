"""Batches of examples of any map-style data set."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset, default_collate

from rlsched.contract import Array


def collate(dataset: Dataset[Any], indices: Array) -> Any:
    """The examples at `indices` (B,) as one batch, bit for bit as a `DataLoader` would collate them."""
    if isinstance(dataset, TensorDataset) and type(dataset).__getitem__ is TensorDataset.__getitem__:
        # One gather a tensor instead of one an example. (A subclass may do something to each example.)
        index = torch.from_numpy(indices)
        return [tensor[index] for tensor in dataset.tensors]
    return default_collate([dataset[int(index)] for index in indices])
