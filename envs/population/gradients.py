"""Gradient statistics of stacked models, as `rlsched.monitor.Monitor` takes them of one."""

from __future__ import annotations

import numpy as np
import torch

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
        self.last = torch.zeros_like(network.parameters)
        self.last_step = np.full(network.layout.rows, -2)  # none: not even the step before the first
        self._before = network.parameters

    def before_step(self, sampled: Array, step: Array) -> None:
        """Look at the gradients of the `sampled` rows (r,), which have done `step` (r,) steps."""
        network, views = self._network, self._network.layout.views
        gradients, last = views(network.gradients), views(self.last)
        norm, last_norm = row_norms(gradients), row_norms(last)
        products = row_products(gradients, last) / (norm.clamp(min=1e-8) * last_norm.clamp(min=1e-8))
        self._norm, cosine = (values.double().cpu().numpy() for values in (norm, products))
        self._cosine = np.where(self.last_step == step - 1, cosine, np.nan)
        self._kept = sampled & np.isfinite(self._norm)
        self._before = network.parameters.clone()
        if self._kept.all():
            self.last.copy_(network.gradients)
        else:
            rows = torch.from_numpy(np.flatnonzero(self._kept)).to(network.device)
            for mine, theirs in zip(last, gradients, strict=True):
                mine[rows] = theirs[rows]
        self.last_step[self._kept] = step[self._kept]

    def after_step(self) -> Array:
        """(3, r) gradient norm, |update| / |parameters| and cosine with the step before; NaN where not taken."""
        views = self._network.layout.views
        size = row_norms(views(self._before)).double().cpu().numpy()
        moved = row_norms(views(self._network.parameters - self._before)).double().cpu().numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(size > 0, moved / size, np.nan)
        return np.where(self._kept, np.stack([self._norm, ratio, self._cosine]), np.nan)
