"""Noticing at once, at any step, that a loss is not finite or has exploded."""

from __future__ import annotations

import math
from typing import Any

PATIENCE = 4
"""Steps in a row by which an explosion is told from a batch that happens to be hard."""
EXPLOSION = 4.0
"""How many times as high as usual the loss of each of them is."""
CERTAIN = 100.0
"""How many times as high it is when a single step is enough."""
LEAST_USUAL = 0.25
"""Share of the first loss that counts as usual at least: what has nearly vanished may well come back a little."""
LOST = 10
"""Steps in a row without a finite loss after which a model does not recover."""
MEMORY = 0.05
"""Weight of the newest loss in the usual one."""


class LossAlarm:
    """Watches the losses of one run, step by step.

    A loss has *exploded* when it was more than `EXPLOSION` times the usual one for `PATIENCE` steps in a row, or
    more than `CERTAIN` times at one. The usual loss is a running average, at least `LEAST_USUAL` of the first
    loss. After an alarm the present loss is the usual one, so that a run whose loss stays high, for whatever
    reason, is not punished for ever. Losses that may be negative have no scale: from the first of them on, none
    explodes.
    """

    def __init__(self) -> None:
        self._first = math.nan
        self._usual = math.nan
        self._high = 0
        self._bad = 0
        self._scaled = True

    def check(self, loss: float | None) -> str | None:
        """Account for a step's mean loss, or None where there is none.

        Returns:
            "non_finite_loss" at the first such step after a finite one, "exploding_loss" when a loss has
            exploded, otherwise None.
        """
        if loss is None:
            return None
        if not math.isfinite(loss):
            self._bad, self._high = self._bad + 1, 0
            return "non_finite_loss" if self._bad == 1 else None
        self._bad = 0
        if math.isnan(self._first):
            self._first = self._usual = loss
        self._scaled &= loss >= 0.0
        if not self._scaled:
            return None
        usual = max(self._usual, LEAST_USUAL * self._first)
        if loss <= EXPLOSION * usual or usual == 0.0:
            self._usual += MEMORY * (loss - self._usual)
            self._high = 0
            return None
        self._high += 1
        if self._high < PATIENCE and loss <= CERTAIN * usual:
            return None
        self._usual, self._high = loss, 0
        return "exploding_loss"

    @property
    def lost(self) -> bool:
        """Whether the losses have just been other than finite for `LOST` steps in a row."""
        return self._bad == LOST

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "first": self._first,
            "usual": self._usual,
            "high": self._high,
            "bad": self._bad,
            "scaled": self._scaled,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._first, self._usual = float(state["first"]), float(state["usual"])
        self._high, self._bad, self._scaled = int(state["high"]), int(state["bad"]), bool(state["scaled"])
