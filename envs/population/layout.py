"""How the parameters of many models of one structure lie in one tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Layout:
    """Parameters of R models in one flat tensor: for each parameter, all R of it, side by side.

    A parameter of all models is then one contiguous tensor, as batched matrix products want it, and what treats
    all elements alike (an optimizer's moments) is one pass over the whole.

    Args:
        rows: R.
        shapes: of a model's parameters.
    """

    def __init__(self, rows: int, shapes: Sequence[torch.Size | tuple[int, ...]]) -> None:
        self.rows, self.shapes = rows, [tuple(shape) for shape in shapes]
        self.size = rows * sum(math.prod(shape) for shape in self.shapes)

    def zeros(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A flat tensor of zeros."""
        return torch.zeros(self.size, dtype=dtype, device=device)

    def views(self, flat: Tensor) -> list[Tensor]:
        """Each parameter (R, *shape) as a view of `flat`."""
        views, start = [], 0
        for shape in self.shapes:
            end = start + self.rows * math.prod(shape)
            views.append(flat[start:end].view(self.rows, *shape))
            start = end
        return views


def row_products(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """(R,) inner product of every row of two lists of (R, ...) parameters."""
    rows = len(first[0])
    products = [(a.reshape(rows, -1) * b.reshape(rows, -1)).sum(dim=1) for a, b in zip(first, second, strict=True)]
    return torch.stack(products).sum(dim=0)


def row_norms(parameters: Sequence[Tensor]) -> Tensor:
    """(R,) Euclidean norm of every row of a list of (R, ...) parameters."""
    norms = [torch.linalg.vector_norm(values.reshape(len(values), -1), dim=1) for values in parameters]
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)
