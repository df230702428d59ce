"""The infinite learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.controllers.schedules.phases import FALLS, phase


@dataclass(frozen=True)
class InfiniteLR(OpenLoop):
    """Warm-up, cooldown to a constant, the constant, and a final exponential annealing.

    The four phases are a linear rise to the base learning rate, a fall to `constant` of it by `shape`, a stretch
    that may be as long as the data last, and, when a finished model is wanted, `constant (final / constant)^x`
    with x the share of the annealing that is done. Training goes on from before the annealing, without another
    warm-up: `InfiniteLR(warmup=0.0, cooldown=0.0)` is the schedule of a new corpus.

    Source: Ibrahim et al. 2024, Simple and Scalable Strategies to Continually Pre-train Large Language Models,
        arXiv:2403.08763; Singh et al. 2025, Beyond Cosine Decay: On the effectiveness of Infinite Learning Rate
        Schedule for Continual Pre-training, arXiv:2503.02844.
    Deviation: the papers count steps, and leave the total open; here each phase is a share of the run. The
        formulas are those of the second paper's code; the default levels are the first paper's as remembered.

    Attributes:
        warmup: share of the run, in [0, 1].
        cooldown: share of the run after it, in [0, 1].
        anneal: share of the run at its end, in [0, 1]; the three make at most 1.
        constant: multiple of the base learning rate, in [1e-6, 1].
        final: multiple of it at the end, in [1e-9, `constant`].
        shape: of the cooldown, "cosine", "inverse-sqrt" or "linear".

    >>> import numpy as np
    >>> schedule = InfiniteLR(0.1, 0.2, 0.2, constant=0.5, final=0.125)
    >>> schedule.profile(np.array([0.0, 0.1, 0.2, 0.3, 0.8, 0.9, 1.0])).round(9).tolist()
    [0.0, 1.0, 0.75, 0.5, 0.5, 0.25, 0.125]
    """

    warmup: float = 0.01
    cooldown: float = 0.2
    anneal: float = 0.2
    constant: float = 0.55
    final: float = 0.1
    shape: str = "cosine"

    def __post_init__(self) -> None:
        for name in ("warmup", "cooldown", "anneal"):
            _check.real(name, getattr(self, name), 0.0, 1.0)
        phases = self.warmup + self.cooldown + self.anneal
        _check.real("warmup + cooldown + anneal", phases, 0.0, 1.0 + 1e-9, "They are shares of one run.")
        _check.real("constant", self.constant, 1e-6, 1.0)
        _check.real("final", self.final, 1e-9, self.constant, "Exponential annealing does not reach zero.")
        _check.choice("shape", self.shape, ("cosine", "inverse-sqrt", "linear"))

    def profile(self, progress: Array) -> Array:
        rise = phase(progress, 0.0, self.warmup)
        cooldown = FALLS[self.shape](phase(progress, self.warmup, self.warmup + self.cooldown))
        level = self.constant + (1.0 - self.constant) * cooldown
        return rise * level * (self.final / self.constant) ** phase(progress, 1.0 - self.anneal, 1.0)
