"""Slow start, fast decay."""

from __future__ import annotations

from dataclasses import dataclass

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.controllers.schedules.phases import phase


@dataclass(frozen=True)
class SlowStartFastDecay(OpenLoop):
    """A slow linear rise to the base learning rate, then exponential decay: for adversarial fine-tuning.

        start + (1 - start) p / rise    while p < rise
        final^((p - rise) / (1 - rise))    from there

    A model that was trained on clean data is fine-tuned on adversarial examples for a few epochs: the slow start
    keeps what it has learned, the fast decay leaves it no time to overfit.

    Source: Jeddi et al. 2020, A Simple Fine-tuning Is All You Need: Towards Robust Deep Learning Via Adversarial
        Fine-tuning, arXiv:2012.13628.
    Deviation: the paper's text was not at hand. The defaults follow a public implementation of ten epochs, which
        rises by a fifth of the peak for five and then halves at each: `Sampled(SlowStartFastDecay(), 10)`.

    Attributes:
        start: multiple of the base learning rate at first, in [0, 1].
        rise: share of the run until the peak, in [0, 1].
        final: multiple of it at the end, in [1e-9, 1].

    >>> import numpy as np
    >>> SlowStartFastDecay().profile(np.array([0.0, 0.2, 0.4, 0.5, 0.6, 1.0])).round(9).tolist()
    [0.2, 0.6, 1.0, 0.5, 0.25, 0.015625]
    """

    start: float = 0.2
    rise: float = 0.4
    final: float = 2.0**-6

    def __post_init__(self) -> None:
        _check.real("start", self.start, 0.0, 1.0)
        _check.real("rise", self.rise, 0.0, 1.0)
        _check.real("final", self.final, 1e-9, 1.0, "Exponential decay does not reach zero.")

    def profile(self, progress: Array) -> Array:
        slow = self.start + (1.0 - self.start) * phase(progress, 0.0, self.rise)
        return slow * self.final ** phase(progress, self.rise, 1.0)
