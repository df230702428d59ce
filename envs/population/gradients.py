"""Gradient statistics of stacked models, as `rlsched.monitor.Monitor` takes them of one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rlsched.contract import Array
from rlsched.envs.population.layout import parameter_norms, parameter_products
from rlsched.envs.population.network import Network
from rlsched.telemetry import cosine, update_ratio


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
        self._norm = _array(torch.linalg.vector_norm(parameter_norms(self._gradients), dim=0))
        self._sizes = _array(parameter_norms(self._parameters))
        product = _array(parameter_products(self._gradients, self._last).sum(dim=0))
        with np.errstate(invalid="ignore"):  # of a row that diverges
            agreement = cosine(product, self._norm, self.last_norm)
        self._cosine = np.where(self.last_step == step - 1, agreement, np.nan)
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
        """(3, r) gradient norm, ratio of the update and cosine with the step before; NaN where not taken.

        `moved` (P, r) is the norm of each parameter's update.
        """
        ratio = update_ratio(_array(moved), self._sizes, self._network.layout.matrices)
        return np.where(self._kept, np.stack([self._norm, ratio, self._cosine]), np.nan)


def _array(values: Tensor) -> Array:
    return np.asarray(values.double().cpu().numpy())
