"""An even subsample of a model's numbers, whose cost is bounded whatever the size of the model."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_

import numpy as np
import torch
from torch import Tensor

from rlsched.contract import Array

BLOCK = 16
"""Elements that are read together: a cache line, for reading memory here and there is what costs."""


class Subsample:
    """Which elements of some parameters are measured: all, or of many about `elements`, evenly spread.

    Args:
        parameters: at least one.
        elements: of more, every s-th block of `BLOCK` is taken, s odd and counted on from one parameter to the
            next, so that it does not fall in step with the layers. A block lies within one parameter.

    Attributes:
        parameters: those.
        matrices: (P,) which of them have at least two dimensions.
    """

    def __init__(self, parameters: Sequence[Tensor], elements: int) -> None:
        self.parameters = parameters
        self.matrices = np.array([parameter.ndim > 1 for parameter in parameters])
        self._sizes = sizes = [parameter.numel() for parameter in parameters]
        stride = -(-sum(sizes) // elements) | 1
        self._period = period = stride * BLOCK if stride > 1 else 0
        position, self._taken = 0, list[tuple[int, int, int]]()
        """Of each parameter that is read its index, its first element and how many blocks."""
        self._lengths = np.array(sizes)
        for index, size in enumerate(sizes):
            if period:
                start = -position % period
                blocks = max(0, (size - start - BLOCK) // period + 1)
                self._lengths[index] = blocks * BLOCK
            else:
                start, blocks = 0, size
            if blocks:
                self._taken.append((index, start, blocks))
            position += size
        wide = any(parameter.dtype == torch.float64 for parameter in parameters)
        self._dtype, self._device = torch.float64 if wide else torch.float32, parameters[0].device
        self._spread = len({parameter.device for parameter in parameters}) > 1

    def is_of(self, parameters: Sequence[Tensor]) -> bool:
        """Whether `parameters` are the ones it was made for, as large as they were then."""
        same = len(parameters) == len(self.parameters) and all(map(is_, parameters, self.parameters))
        return same and [parameter.numel() for parameter in parameters] == self._sizes

    def read(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """A flat float copy of the elements of `tensors`, shaped like the parameters, in order; zeros for None."""
        parts, period = [], self._period
        with torch.no_grad():
            for index, start, blocks in self._taken:
                tensor = tensors[index]
                if tensor is None:
                    tensor = torch.zeros_like(self.parameters[index])
                if period:
                    tensor = tensor.contiguous()
                    part = tensor.as_strided((blocks, BLOCK), (period, 1), tensor.storage_offset() + start)
                else:
                    part = tensor.reshape(-1)
                parts.append(part.to(self._device) if self._spread else part)
            # A rank of a sharded model may hold nothing.
            read = torch.cat(parts) if parts else torch.empty(0, device=self._device)
            return read.reshape(-1).to(self._dtype)

    def norms(self, values: Array) -> Array:
        """(P, ...) Euclidean norm of each parameter's elements among `values` (..., n), as read; 0 where none."""
        some = self._lengths > 0
        norms = np.zeros((len(some), *values.shape[:-1]))
        starts = (np.cumsum(self._lengths) - self._lengths)[some]
        # Sums of NumPy are pairwise: single precision is enough.
        norms[some] = np.sqrt(np.add.reduceat(np.square(values), starts, axis=-1)).T
        return norms
