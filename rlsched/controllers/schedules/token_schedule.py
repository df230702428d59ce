"""A schedule over consumed tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.controllers.schedules.open_loop import OpenLoop, check_schedule

GRID = np.linspace(0.0, 1.0, 2049)


@dataclass(frozen=True)
class TokenSchedule(OpenLoop):
    """Another schedule over the share of tokens consumed, rather than of steps, where steps differ in tokens.

    The progress of the other schedule is `c(p) / c(1)`, with c(p) the integral from 0 to p of the tokens per step.
    Where sequences grow, or layers drop tokens, early steps are cheap, and the learning rate should not fall as if
    they were not. With random layer-wise token dropping, steps are measured in *layer-tokens*, the tokens that
    each layer processes, summed over layers: if 22 of 24 layers keep 128 of 2,048 tokens at first, and all of them
    from 70 % of the run on, a step begins at `2 / 24 + 22 / 24 * 128 / 2048` = 0.14 of its later cost:

        TokenSchedule(Cosine(), tokens=Between(Warmup(Constant(), 0.7), start=1.0, end=0.14))

    Source: Yao et al. 2022, Random-LTD: Random and Layerwise Token Dropping Brings Efficient Training for
        Large-scale Transformers, arXiv:2211.11586.
    Deviation: the share is that planned for the whole run, in continuous time (an error of the order of one step),
        not a count of what was consumed; the schedule of the dropping is the user's. The paper's text was not at
        hand beyond its abstract; the count of layer-tokens is that of the authors' code.

    Attributes:
        schedule: the other one.
        tokens: per step, up to a factor, as a function of progress; positive somewhere in the run.

    >>> from rlsched import Linear
    >>> from rlsched.controllers.schedules import Between
    >>> growing = Between(Linear(), start=0.0, end=1.0)
    >>> TokenSchedule(Linear(), growing).profile(np.array([0.0, 0.5, 1.0])).round(6).tolist()
    [1.0, 0.75, 0.0]
    """

    schedule: OpenLoop
    tokens: OpenLoop

    def __post_init__(self) -> None:
        check_schedule("schedule", self.schedule)
        check_schedule("tokens", self.tokens)
        if self._consumed()[-1] <= 0:
            raise _check.ArgumentError(f"tokens must be positive somewhere in the run, got {self.tokens}.")

    def profile(self, progress: Array) -> Array:
        consumed = self._consumed()
        return self.schedule.profile(np.interp(progress, GRID, consumed / consumed[-1]))

    def _consumed(self) -> Array:
        """(2049,) tokens consumed until each point of `GRID`, by the trapezoidal rule."""
        tokens = self.tokens.profile(GRID)
        return np.concatenate([[0.0], np.cumsum(0.5 * (tokens[1:] + tokens[:-1]))])
