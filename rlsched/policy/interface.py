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
    """What a policy sees and does. Stateless: state goes in and comes out.

    Attributes:
        action: how actions are decoded.
        run_features: names of the run's features that it sees, F of `observation.RUN_NAMES`. Those of a policy
            that an earlier version trained may be fewer.
    """

    action: ActionSpec = field(default_factory=ActionSpec)
    run_features: tuple[str, ...] = observation.RUN_NAMES

    def __post_init__(self) -> None:
        observation.check_run_features(self.run_features)

    reads = observation.READS

    def bounds(self, num_buckets: int) -> tuple[Array, Array]:
        """Lowest and highest value of each entry of an observation with `num_buckets` buckets."""
        low, high = observation.bounds(num_buckets)
        columns = self._columns(len(low))
        return low[columns], high[columns]

    def init(self, spec: RunSpec) -> State:
        """The state before a run's first step."""
        return {"observation": observation.init(spec), "action": self.action.init(spec)}

    def observe(self, state: State, window: Window) -> tuple[State, Array]:
        """The observation (R, F + K * B) after `window`."""
        memory, seen = observation.observe(state["observation"], window, **state["action"])
        if self.run_features != observation.RUN_NAMES:
            seen = seen[:, self._columns(seen.shape[1])]
        return {"observation": memory, "action": state["action"]}, seen

    def _columns(self, width: int) -> list[int]:
        """Where in a whole observation of `width` entries those are that this policy sees."""
        names = observation.RUN_NAMES
        return [names.index(name) for name in self.run_features] + list(range(len(names), width))

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
