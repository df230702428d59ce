"""Refinement of a schedule from the gradient norms of a run under it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.tabulated import Tabulated


@dataclass(frozen=True)
class Refinement:
    """The schedule of the next run from the gradient norms of the last: `eta_t ~ w_t sum_(s>t) w_s`.

    With w_t = 1 / g_t^2, where g_t is the smoothed gradient norm at step t, it minimises a bound of the last
    iterate of SGD on a convex loss, given these norms. Equal norms give linear decay. Where norms are large at the
    beginning it is a warm-up, where they grow at the end a faster decay. For Adam, w_t = 1 / g_t.

    Source: Defazio et al. 2023, When, Why and How Much? Adaptive Learning Rate Scheduling by Refinement,
        arXiv:2310.07831; weights and filter as in the authors' scripts.
    Deviation: norms are measured once a window and interpolated, in the logarithm, to steps. For Adam the paper
        takes the l1 norm; telemetry has the l2 norm, which is proportional while the gradient's shape stays.
        After T steps there is an iterate T + 1, whose norm is taken to be that of step T; the paper's last step
        has a learning rate of 0.

    Attributes:
        power: of the norm in the weights, 2 for SGD, 1 for Adam, >= 0.
        filter_share: width of the median filter as a share of the run, in [0, 1].

    >>> Refinement().schedule([3.0, 3.0, 3.0, 3.0]).values
    (1.0, 0.75, 0.5, 0.25)
    >>> Refinement(filter_share=0.0).schedule([2.0, 1.0, 1.0]).values  # w is 1/4, 1, 1 and 1
    (0.375, 1.0, 0.5)
    """

    power: float = 2.0
    filter_share: float = 0.1

    def __post_init__(self) -> None:
        _check.real("power", self.power, 0.0)
        _check.real("filter_share", self.filter_share, 0.0, 1.0)

    def schedule(
        self, grad_norm: npt.ArrayLike, steps: npt.ArrayLike | None = None, num_steps: int | None = None
    ) -> Tabulated:
        """The refined schedule, 1 where it is highest: its learning rate is to be tuned as that of any other.

        Args:
            grad_norm: (N,) gradient norms of a run, positive.
            steps: (N,) steps that were done when each was measured, increasing; by default one a step.
            num_steps: T of the run; by default the last of `steps`.
        """
        norm = _check.vector("grad_norm", grad_norm)
        if (norm <= 0).any():
            raise _check.ArgumentError(
                f"grad_norm must be positive, got {norm.min()}: leave out windows that were not measured."
            )
        if steps is not None or num_steps is not None:
            norm = _at_every_step(norm, steps, num_steps)
        weight = (norm.min() / self.smoothed(norm)) ** self.power
        tail = np.cumsum(np.append(weight, weight[-1])[::-1])[::-1]
        rates = weight * tail[1:]
        return Tabulated(rates / rates.max())

    def smoothed(self, norm: Array) -> Array:
        """(T,) medians of (T,) norms over a window around each; the end is reflected, the beginning repeated."""
        half = int(self.filter_share * len(norm)) // 2
        padded = np.pad(np.pad(norm, (0, half), mode="reflect"), (half, 0), mode="edge")
        return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1))


def _at_every_step(norm: Array, steps: npt.ArrayLike | None, num_steps: int | None) -> Array:
    where = np.arange(1, len(norm) + 1) if steps is None else _check.labels("steps", steps)
    if len(where) != len(norm) or where[0] < 1 or (np.diff(where) <= 0).any():
        raise _check.ArgumentError(
            f"steps must be {len(norm)} increasing numbers >= 1, one for each norm, got {where.tolist()}."
        )
    total = int(where[-1]) if num_steps is None else _check.integer("num_steps", num_steps, int(where[-1]))
    return np.exp(np.interp(np.arange(1, total + 1), where, np.log(norm)))
