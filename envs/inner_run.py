"""The training run inside the environment."""

from __future__ import annotations

from typing import Any, Protocol

from rlsched.contract import Array, RunSpec, Window


class InnerRun(Protocol):
    """A training run that is advanced window by window, and can be saved, restored and branched.

    Attributes:
        spec: what is fixed about the run; valid after `reset`.
    """

    spec: RunSpec

    def reset(self, seed: int) -> None:
        """Start afresh: model, optimizer and data order follow from `seed` alone."""
        ...

    def advance(self, n_steps: int, lr_scale: Array, bucket_weights: Array) -> Window:
        """Train for `n_steps` steps.

        Args:
            n_steps: at least 1.
            lr_scale: (>= n_steps,) multiplier of every group's base learning rate at each step.
            bucket_weights: (K,) probability of drawing from each bucket.

        Returns:
            the telemetry of these steps. After a non-finite loss the rest of them is not run.
        """
        ...

    def validation_loss(self) -> float:
        """Mean loss on the validation data; not finite if the run has diverged."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything the rest of the run depends on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, bit for bit."""
        ...
