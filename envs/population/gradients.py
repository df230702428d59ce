"""Gradient statistics of stacked models, as `rlsched.monitor.Monitor` takes them of one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rlsched.contract import Array
from rlsched.envs.population.layout import row_norms, row_products
from rlsched.envs.population.network import Network


class GradientStatistics:
    """Norms of gradients and updates, and agreement of consecutive gradients, on the steps that are sampled.

    Args:
        network: whose steps are measured.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        views = network.layout.views
        self._gradients, self._parameters = views(network.gradients), views(network.parameters)
        self.last = torch.zeros_like(network.parameters)
        self._last = views(self.last)
        self.last_norm = np.zeros(network.layout.rows)
        self.last_step = np.full(network.layout.rows, -2)  # none: not even the step before the first

    def before_step(self, sampled: Array, step: Array) -> None:
        """Look at parameters and gradients of the `sampled` rows (r,), which have done `step` (r,) steps."""
        self._norm, self._size = _array(row_norms(self._gradients)), _array(row_norms(self._parameters))
        product = _array(row_products(self._gradients, self._last))
        with np.errstate(invalid="ignore"):  # of a row that diverges
            cosine = product / (np.maximum(self._norm, 1e-8) * np.maximum(self.last_norm, 1e-8))
        self._cosine = np.where(self.last_step == step - 1, cosine, np.nan)
        self._kept = sampled & np.isfinite(self._norm)
        if self._kept.all():
            self.last.copy_(self._network.gradients)
        else:
            rows = torch.from_numpy(np.flatnonzero(self._kept)).to(self._network.device)
            for mine, theirs in zip(self._last, self._gradients, strict=True):
                mine[rows] = theirs[rows]
        self.last_norm[self._kept] = self._norm[self._kept]
        self.last_step[self._kept] = step[self._kept]

    def after_step(self, moved: Tensor) -> Array:
        """(3, r) gradient norm, |update| / |parameters| and cosine with the step before; NaN where not taken.

        `moved` (r,) is the norm of the update.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = np.where(self._size > 0, _array(moved) / self._size, np.nan)
        return np.where(self._kept, np.stack([self._norm, ratio, self._cosine]), np.nan)


def _array(values: Tensor) -> Array:
    return np.asarray(values.double().cpu().numpy())
