"""The reward: how far the validation loss has come."""

from __future__ import annotations

import numpy as np

from rlsched.contract import Array

LOSS_CEILING = 5.0
"""ln(validation loss / initial) is capped here, which is also what a diverged run counts as."""
LOSS_FLOOR = -7.0
"""It is floored here: below a thousandth of the initial loss, less is not better, and the logarithm of an
easy task's vanishing loss would outweigh all other tasks."""


def relative_log_loss(loss: Array, first: Array, finite: Array) -> Array:
    """(R,) ln(loss / first), clipped, where the run is `finite`, else the ceiling.

    A step's reward is its decrease, so an episode's undiscounted return is ln(L_0 / L_T).
    """
    usable = np.where(finite, np.maximum(np.where(finite, loss, 1.0), 1e-12), 1.0)
    relative = np.clip(np.log(usable / first), LOSS_FLOOR, LOSS_CEILING)
    return np.where(finite, relative, LOSS_CEILING)
