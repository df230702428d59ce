"""An even subsample of a model's numbers, whose cost is bounded whatever the size of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rlsched.contract import Array

BLOCK = 8
"""Elements that are read together: half a cache line, for reading memory here and there is what costs."""


class Subsample:
    """Which elements of some parameters are measured: all, or of many about `elements`, evenly spread.

    Args:
        parameters: at least one.
        elements: of more, every s-th block of `BLOCK` is taken, s odd and counted on from one parameter to the
            next, so that it does not fall in step with the layers.

    Attributes:
        parameters: those.
    """

    def __init__(self, parameters: Sequence[Tensor], elements: int) -> None:
        self.parameters = parameters
        stride = -(-sum(p.numel() for p in parameters) // elements) | 1
        self._period = stride * BLOCK if stride > 1 else 0
        wide = any(parameter.dtype == torch.float64 for parameter in parameters)
        self._device, self._dtype = parameters[0].device, torch.float64 if wide else torch.float32
        position, self._starts, lengths = 0, list[int](), list[int]()
        for parameter in parameters:
            start = -position % self._period if self._period else 0
            self._starts.append(start)
            lengths.append(self._count(parameter.numel() - start))
            position += parameter.numel()
        self._lengths = np.array(lengths)

    def read(self, select: Callable[[Tensor], Tensor] = lambda parameter: parameter) -> Tensor:
        """A flat float copy of the elements of `select(parameter)`, one parameter after the other."""
        chosen = zip(self.parameters, self._starts, self._lengths, strict=True)
        parts = [self._part(select(p).detach(), start) for p, start, length in chosen if length]
        # A rank of a sharded model may hold nothing.
        return torch.cat(parts) if parts else torch.empty(0, device=self._device, dtype=self._dtype)

    def norms(self, values: Tensor) -> Array:
        """(P,) Euclidean norm of each parameter's elements among `values`, as `read`; 0 where it has none."""
        norms, some = np.zeros(len(self._lengths)), self._lengths > 0
        starts = (np.cumsum(self._lengths) - self._lengths)[some]
        norms[some] = np.sqrt(np.add.reduceat(values.square().cpu().numpy(), starts, dtype=np.float64))
        return norms

    @property
    def matrices(self) -> Array:
        """(P,) which parameters have at least two dimensions."""
        return np.array([parameter.ndim > 1 for parameter in self.parameters])

    def _count(self, ahead: int) -> int:
        """Elements that are taken of the `ahead` from a parameter's first block on."""
        if not self._period or ahead < BLOCK:
            return max(0, ahead)
        return ((ahead - BLOCK) // self._period + 1) * BLOCK

    def _part(self, values: Tensor, start: int) -> Tensor:
        flat = values.reshape(-1)[start:]
        if self._period and len(flat) >= BLOCK:
            flat = flat.unfold(0, BLOCK, self._period).reshape(-1)
        return flat.to(self._device, self._dtype)
