"""The power scheduler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Decision, RunSpec, State, Window
from rlsched.controllers.schedules.phases import FALLS, phase


@dataclass(frozen=True)
class Power:
    """A power law in tokens seen, agnostic of horizon and batch size: `min(base_lr, batch_size * a n^b)`.

    n counts tokens, a is `amplitude` and b is `exponent`; the base learning rate is an upper bound, and 0.02 in
    the paper. A warm-up rises linearly to the law's value at its end, and a cooldown falls exponentially to zero
    from its value at the beginning:

        (n / warmup) law(warmup)    if n < warmup
        f(x) law(N - cooldown)    in the cooldown, x the share of it done, f(x) = (e^(1 - x) - 1) / (e - 1)

    Until the cooldown, runs of different lengths have the same learning rates, and at the same number of tokens
    these are proportional to the batch size. It is therefore no function of progress, and no `OpenLoop` that other
    schedules could be made of. Parameter groups keep their ratios; the largest rate is the bound.

    Source: Shen et al. 2024, Power Scheduler: A Batch Size and Token Number Agnostic Learning Rate Scheduler,
        arXiv:2408.13359.
    Deviation: the paper's a and b are for language models in the maximal update parametrisation; other models need
        their own, found on small runs.

    Attributes:
        amplitude: a, the learning rate per example of the batch after one token, positive; from 3 to 5 it made
            little difference in the paper.
        exponent: b, in [-2, 0].
        tokens_per_example: what n counts per example of the batch: the sequence length, or 1 to count examples.
        warmup_tokens: length of the warm-up in what n counts, at least 0.
        cooldown: share of the run, in [0, 1].

    Where the law is below its bound, here 4 * 0.1 / sqrt(4 t) / 0.1 at step t, it halves as t quadruples:

    >>> run = RunSpec.single(100, 1, base_lr=0.1, adaptive=True, batch_size=4)
    >>> law = Power(amplitude=0.1, exponent=-0.5, cooldown=0.0)
    >>> window = Window.opening(run).replace(step=np.array([1]), decision=np.array([1]))
    >>> law.decide(law.init(run), window)[1].lr_scale[0, [0, 3, 15, 63]].round(9).tolist()
    [1.0, 1.0, 0.5, 0.25]
    """

    amplitude: float = 4.0
    exponent: float = -0.51
    tokens_per_example: int = 1
    warmup_tokens: float = 0.0
    cooldown: float = 0.1

    reads = frozenset[str]()

    def __post_init__(self) -> None:
        _check.real("amplitude", self.amplitude, 1e-12, 1e12)
        _check.real("exponent", self.exponent, -2.0, 0.0)
        _check.integer("tokens_per_example", self.tokens_per_example, 1)
        _check.real("warmup_tokens", self.warmup_tokens, 0.0)
        _check.real("cooldown", self.cooldown, 0.0, 1.0)

    def init(self, spec: RunSpec) -> State:
        """Nothing to remember. ValueError if a batch size is unknown."""
        if np.isnan(spec.batch_size).any():
            raise _check.ArgumentError(
                "the batch size must be known, as Power counts examples: pass batch_size= to the scheduler."
            )
        return {}

    def decide(self, state: State, window: Window) -> tuple[State, Decision]:
        """The law over the coming window."""
        spec, progress = window.spec, window.progress_ahead()
        batch = spec.batch_size[:, None]
        total = spec.num_steps[:, None] * batch * self.tokens_per_example
        seen = progress * total
        # The law holds still in the warm-up and in the cooldown; it is not defined before the first token.
        law_at = np.maximum(np.clip(seen, self.warmup_tokens, (1.0 - self.cooldown) * total), 1.0)
        bound = np.maximum(np.nanmax(spec.base_lr, axis=1), 1e-30)[:, None]
        law = np.minimum(1.0, batch * self.amplitude * law_at**self.exponent / bound)
        warm = np.minimum(1.0, seen / self.warmup_tokens) if self.warmup_tokens > 0 else 1.0
        cooldown = FALLS["exponential"](phase(progress, 1.0 - self.cooldown, 1.0)) if self.cooldown > 0 else 1.0
        return state, Decision(warm * law * cooldown, spec.bucket_shares)
