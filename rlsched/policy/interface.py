"""A policy's two ends joined: telemetry -> observation and action -> decision, with one state.

The environment calls `observe` and `act` around the agent that is being trained, `PolicyController` calls
them around the exported policy. There is no other feature or decoding code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlsched import observation
from rlsched.action import ActionSpec
from rlsched.contract import Array, Decision, RunSpec, State, Window


@dataclass(frozen=True)
class PolicyInterface:
    """What a policy sees and does. Stateless: state goes in and comes out."""

    action: ActionSpec = field(default_factory=ActionSpec)

    reads = observation.READS

    def init(self, spec: RunSpec) -> State:
        """The state before a run's first step."""
        return {"observation": observation.init(spec), "action": self.action.init(spec)}

    def observe(self, state: State, window: Window) -> tuple[State, Array]:
        """The observation (R, F + K * B) after `window`; updates are as long as if none had been held back."""
        # Statistics of gradients are of the window's last steps.
        window = window.replace(update_ratio=window.update_ratio / self.action.settled(window.progress))
        memory, seen = observation.observe(state["observation"], window, **state["action"])
        return {"observation": memory, "action": state["action"]}, seen

    def act(self, state: State, window: Window, action: Array) -> tuple[State, Decision]:
        """The decision that `action` (R, 1 + K) means; zero before the first step and without a loss.

        A run that reports no loss is therefore never moved: it is linear decay over its natural mixture.
        """
        steer = observation.steerable(window, state["observation"]["bucket_last"])
        informed = observation.has_loss(window)
        action = np.where(informed[:, None], action, 0.0)
        acted, decision = self.action.decode(state["action"], window, action, steer)
        return {"observation": state["observation"], "action": acted}, decision

    def default(self, state: State, window: Window) -> tuple[State, Decision]:
        """The decision of the zero action."""
        return self.act(state, window, np.zeros((window.spec.num_runs, 1 + window.spec.num_buckets)))
