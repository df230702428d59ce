"""Processes that train one model together, by `torch.distributed`.

Every rank decides for itself, and all must decide the same: what a decision depends on is averaged over the ranks
first. Where nothing is distributed there is one rank, and nothing to do.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist

from rlsched.contract import Array, Window
from rlsched.tensors import Losses, mean_of

_AVAILABLE = dist.is_available()
_LOCAL = (
    "grad_norm", "grad_spread", "update_ratio", "grad_agreement", "validation_loss",
    "group_alpha", "group_rotation",
)  # fmt: skip
"""Measurements of a window that each rank takes on its own; its losses are those of all ranks already."""


def size() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if _distributed() else 1


def rank() -> int:
    """Which of them this process is, from 0."""
    return dist.get_rank() if _distributed() else 0


def mean(values: Array) -> Array:
    """(n,) mean over the ranks of each value that is not NaN; the same to the bit on all of them."""
    if size() == 1:
        return values
    known = ~np.isnan(values)
    sums = torch.from_numpy(np.stack([np.where(known, values, 0.0), known.astype(np.float64)])).to(_device())
    dist.all_reduce(sums)
    total, count = sums.cpu().numpy()
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def mean_loss(losses: Losses | None) -> Losses | None:
    """The mean over the ranks of the mean losses of those that have some, not finite if one is not.

    With one rank `losses` themselves; None if no rank has any.
    """
    if not _distributed():
        return losses
    own = np.array([0.0, 0.0] if losses is None else [mean_of(losses), 1.0])
    total, count = gather(own).sum(axis=0)
    return float(total / count) if count else None


def gather(values: Array) -> Array:
    """(size, n) the values (n,) of every rank; all must have equally many."""
    if size() == 1:
        return values[None]
    mine = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)).to(_device())
    parts = [torch.empty_like(mine) for _ in range(size())]
    dist.all_gather(parts, mine)
    return torch.stack(parts).cpu().numpy()


def agree(window: Window) -> Window:
    """`window` as the mean over ranks has it."""
    if size() == 1:
        return window
    local = {name: values for name in _LOCAL if (values := getattr(window, name)) is not None}
    ends = np.cumsum([values.size for values in local.values()])
    means = np.split(mean(np.concatenate([values.ravel() for values in local.values()])), ends[:-1])
    return window.replace(
        **{name: values.reshape(local[name].shape) for name, values in zip(local, means, strict=True)}
    )


def _distributed() -> bool:
    return _AVAILABLE and dist.is_initialized()


def _device() -> torch.device:
    """Where the collectives of the default group work."""
    return (
        torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    )
