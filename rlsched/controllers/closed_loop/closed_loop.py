"""What closed-loop learning rates have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlsched.contract import Decision, RunSpec, State, Window
from rlsched.controllers.schedules.constant import Constant
from rlsched.controllers.schedules.open_loop import OpenLoop, check_schedule


@dataclass(frozen=True)
class ClosedLoop:
    """A controller whose learning rate is `base_lr * scale * profile(progress)`, with a scale from telemetry.

    The mixture of the data is the natural one. Subclasses define `reads`, and `adapt`, which moves
    `state["scale"]`; those that remember more extend `init`. What was not measured in a window must leave the
    state as it is.

    Attributes:
        schedule: what the scale multiplies.
    """

    schedule: OpenLoop = field(default_factory=Constant, kw_only=True)

    reads = frozenset[str]()

    def __post_init__(self) -> None:
        check_schedule("schedule", self.schedule)

    def init(self, spec: RunSpec) -> State:
        """A scale of 1."""
        return {"scale": np.ones(spec.num_runs)}

    def adapt(self, state: State, window: Window) -> State:
        """The state after `window`."""
        raise NotImplementedError

    def decide(self, state: State, window: Window) -> tuple[State, Decision]:
        """The schedule over the coming window, at the adapted scale."""
        state = self.adapt(state, window)
        lr_scale = state["scale"][:, None] * self.schedule.profile(window.progress_ahead())
        return state, Decision(lr_scale, window.spec.bucket_shares)
