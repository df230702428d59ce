"""What a policy does: from actions to learning rates and bucket weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array, Decision, RunSpec, State, Window
from rlsched.decision_times import num_short_windows

SETTLING_FROM = 0.3
"""The share of the learning rate that a run begins with that has to settle."""


@dataclass(frozen=True)
class ActionSpec:
    """How an action in [-1, 1]^(1 + K) becomes a `Decision`.

    The learning rate at step t of T, in a window that begins after j decisions, is

        lr(t) = base_lr * 10^(log_scale) * 10^(-max_move * max(warmup - j, 0)) * settled(t / T) * (1 - t / T)
        log_scale <- clip(log_scale + max_move * action[0], -max_log_scale, max_log_scale)

    so the zero action is linear decay to zero after a warm-up of the first `warmup` windows. These are 1, 1, 2,
    ... steps long: `warmup` is `warmup_decisions`, or all short windows of a run that has fewer (see
    `decision_times.decision_steps`). The warm-up exists because one Adam step at a learning rate misjudged by
    100x can ruin a run before there is anything to observe; it rises by one full move per decision, so a
    policy that sees trouble can hold it where it is.

    Some networks, such as transformers that normalise after their layers, bear a high learning rate only later.
    For them `settled` rises by a line from `SETTLING_FROM` to 1 over the first `settling` of the run; without, it
    is 1. What a policy sees of the length of updates is as if they were not held back (`PolicyInterface.observe`),
    or it would make up for it.

    The bucket weights are, with natural shares p and logits z = max_logit * action[1:],

        w = (1 - bucket_floor) * softmax(log p + z) + bucket_floor * p

    so the zero action is the natural mixture and no bucket starves. In a run that cannot be steered (see
    `observation.steerable`) they are p whatever the action.

    Attributes:
        max_move: decades by which one action can move the learning rate, in (0, 3].
        max_log_scale: bound of log_scale either way, decades, in (0, 4].
        max_logit: bound of the bucket logits either way, in (0, 20].
        bucket_floor: share of the weight that stays natural, in (0, 1].
        warmup_decisions: windows in the warm-up, the opening included, 0 for none.
        settling: share of the run until its learning rate is no longer held back, in [0, 0.5]; 0 for not at all.
    """

    max_move: float = 0.7
    max_log_scale: float = 3.0
    max_logit: float = 4.0
    bucket_floor: float = 0.02
    warmup_decisions: int = 3
    settling: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_move", 1e-3, 3.0),
            ("max_log_scale", 1e-3, 4.0),
            ("max_logit", 1e-3, 20.0),
            ("bucket_floor", 1e-6, 1.0),
            ("settling", 0.0, 0.5),
        ):
            object.__setattr__(self, name, _check.real(name, getattr(self, name), low, high))
        _check.integer("warmup_decisions", self.warmup_decisions, 0, 10)

    def init(self, spec: RunSpec) -> State:
        """The state before the opening: no correction, natural mixture."""
        zero = np.zeros(spec.num_runs)
        return {"log_scale": zero, "last_move": zero, "bucket_weights": spec.bucket_shares}

    def decode(self, state: State, window: Window, action: Array, steer: Array) -> tuple[State, Decision]:
        """The decision that `action` (R, 1 + K) means, clipped to [-1, 1]; `steer` (R,) frees the buckets."""
        action = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        move = action[:, 0]
        log_scale = np.clip(state["log_scale"] + self.max_move * move, -self.max_log_scale, self.max_log_scale)
        progress = window.progress_ahead()
        exponent = log_scale - self.warmup(window.spec.num_decisions, window.decision)
        lr_scale = (10.0**exponent)[:, None] * self.settled(progress) * (1.0 - progress)

        shares = window.spec.bucket_shares
        logits = np.log(shares) + self.max_logit * action[:, 1:]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        weights = weights / weights.sum(axis=1, keepdims=True)
        weights = (1.0 - self.bucket_floor) * weights + self.bucket_floor * shares
        weights = np.where(steer[:, None], weights, shares)
        new_state = {"log_scale": log_scale, "last_move": move, "bucket_weights": weights}
        return new_state, Decision(lr_scale, weights)

    def warmup(self, num_decisions: Array, decision: Array) -> Array:
        """(R,) decades that the warm-up has to rise yet, after `decision` (R,) of `num_decisions` (R,)."""
        left = np.minimum(self.warmup_decisions, num_short_windows(num_decisions)) - decision
        return self.max_move * np.maximum(left, 0)

    def settled(self, progress: Array) -> Array:
        """The share of the learning rate that is not held back, in (0, 1], at each `progress`, in [0, 1]."""
        if not self.settling:
            return np.ones_like(progress)
        return np.minimum(SETTLING_FROM + (1.0 - SETTLING_FROM) * progress / self.settling, 1.0)
