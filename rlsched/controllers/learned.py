"""The learned policy as a controller."""

from __future__ import annotations

from dataclasses import dataclass

from rlsched.contract import Decision, RunSpec, State, Window
from rlsched.policy import Policy


@dataclass(frozen=True)
class PolicyController:
    """Learning rate and bucket weights from a policy's deterministic action.

    A run that reports no loss is left at the policy's default: linear decay after a short warm-up, over the
    natural mixture.
    """

    policy: Policy

    def __post_init__(self) -> None:
        if not isinstance(self.policy, Policy):
            raise TypeError(
                f"policy must be an rlsched.Policy, got {type(self.policy).__name__}: load one by Policy.load."
            )

    @property
    def reads(self) -> frozenset[str]:
        """The telemetry the policy's features are made of."""
        return self.policy.interface.reads

    def init(self, spec: RunSpec) -> State:
        return self.policy.interface.init(spec)

    def decide(self, state: State, window: Window) -> tuple[State, Decision]:
        interface = self.policy.interface
        state, observation = interface.observe(state, window)
        return interface.act(state, window, self.policy.act(observation))
