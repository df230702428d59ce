"""The learned policy as a controller."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched.contract import Array, Decision, RunSpec, State, Window
from rlsched.observation import RUN_FEATURES
from rlsched.policy import Policy

FAR = 8.0
"""Standard deviations from the mean of training beyond which an observation is of a kind the policy never saw."""
CEILING = 0.1
"""Highest learning rate that a policy gives an optimizer of Adam's kind, whose steps move each weight by about as
much: see docs/findings.md."""
_FIXED = {"progress", "decisions_left", "interval", "log_scale", "last_move", "batch_size", "adaptive", "feedback",
          "curriculum", "epochs"}  # fmt: skip
"""What a run is, and what was done in it, rather than how it fares: a longer run is none of another kind."""
_MEASURED = np.array([feature.name not in _FIXED for feature in RUN_FEATURES])


@dataclass(frozen=True)
class PolicyController:
    """Learning rate and bucket weights from a policy's deterministic action.

    A run that reports no loss is left at the policy's default: linear decay after a short warm-up, over the
    natural mixture. While its telemetry is further than `FAR` standard deviations from what the policy saw in
    training, it decays linearly from where it is, over the natural mixture, and the policy may lower the learning
    rate, but not raise it. Nor does it raise that of an optimizer of Adam's kind above `CEILING`.
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
        action = self._below_ceiling(state, window, self.policy.act(observation))
        distance = self._distance(observation)
        far = distance.max(axis=1) > FAR
        if not far.any():
            return interface.act(state, window, action)
        cautious = np.zeros_like(action)
        cautious[:, 0] = np.minimum(action[:, 0], 0.0)
        state, decision = interface.act(state, window, np.where(far[:, None], cautious, action))
        note = _note(observation[0], distance[0]) if len(far) == 1 else ()
        return state, Decision(decision.lr_scale, decision.bucket_weights, note)

    def _below_ceiling(self, state: State, window: Window, action: Array) -> Array:
        """`action` (R, 1 + K) with moves that keep the learning rate below the ceiling."""
        # A base that is above it is somebody's choice, and as high as the policy goes then.
        base = np.fmax.reduce(window.spec.base_lr, axis=1)
        highest = np.maximum(CEILING / np.maximum(base, 1e-30), 1.0) / (1.0 - np.minimum(window.progress, 0.999))
        room = (np.log10(highest) - state["action"]["log_scale"]) / self.policy.metadata.action.max_move
        bounded = action.copy()
        bounded[:, 0] = np.where(window.spec.adaptive, np.clip(room, -1.0, action[:, 0]), action[:, 0])
        return bounded

    def _distance(self, observation: Array) -> Array:
        """(R, F) standard deviations of each measured run feature from its mean in training."""
        mean, std = (self.policy.tensors[f"normalizer.run_{name}"] for name in ("mean", "std"))
        distance: Array = np.abs(observation[:, : len(RUN_FEATURES)] - mean) / std * _MEASURED
        return distance


def _note(observation: Array, distance: Array) -> tuple[tuple[str, str], ...]:
    worst = int(distance.argmax())
    feature = RUN_FEATURES[worst]
    message = (
        f"{feature.name} ({feature.meaning}) is {observation[worst]:.3g}, {distance[worst]:.0f} standard "
        "deviations from what the policy saw in training: while it is so, the learning rate is not raised further."
    )
    return (("out_of_range", message),)
