"""How the parameters of many models of one structure lie in one tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Layout:
    """Parameters of R models in one flat tensor: for each parameter, all R of it, side by side.

    A parameter of all models is then one contiguous tensor, as batched matrix products want it, and what treats
    all elements alike (an optimizer's moments) is one pass over the whole.

    Args:
        rows: R.
        shapes: of a model's parameters.
        matrices: which of them are weight matrices; by default those of at least two dimensions.
    """

    def __init__(
        self, rows: int, shapes: Sequence[torch.Size | tuple[int, ...]], matrices: Sequence[bool] | None = None
    ) -> None:
        self.rows, self.shapes = rows, [tuple(shape) for shape in shapes]
        self.matrices = np.array([len(shape) > 1 for shape in self.shapes] if matrices is None else matrices)
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


def parameter_products(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """(P, R) inner product of every row of two lists of P (R, ...) parameters, parameter by parameter."""
    rows = len(first[0])
    products = [(a.reshape(rows, -1) * b.reshape(rows, -1)).sum(dim=1) for a, b in zip(first, second, strict=True)]
    return torch.stack(products)


def parameter_norms(parameters: Sequence[Tensor]) -> Tensor:
    """(P, R) Euclidean norm of every row of each of a list of P (R, ...) parameters."""
    norms = [torch.linalg.vector_norm(values.reshape(len(values), -1), dim=1) for values in parameters]
    return torch.stack(norms)
