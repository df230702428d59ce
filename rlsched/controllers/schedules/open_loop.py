"""What all open-loop schedules have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlsched.contract import Array, Decision, RunSpec, State, Window


@dataclass(frozen=True)
class OpenLoop:
    """A controller whose learning rate is `base_lr * profile(progress)`. Subclasses define `profile`.

    It works on arrays of any shape, so it schedules any other scalar as well: see `Between`.
    """

    reads = frozenset[str]()

    def profile(self, progress: Array) -> Array:
        """Multiplier of the base learning rate at `progress` in [0, 1], any shape."""
        raise NotImplementedError

    def init(self, spec: RunSpec) -> State:
        """Nothing to remember."""
        return {}

    def decide(self, state: State, window: Window) -> tuple[State, Decision]:
        """The profile over the coming window."""
        return state, Decision(self.profile(window.progress_ahead()), window.spec.bucket_shares)


def check_schedule(name: str, schedule: Any) -> None:
    """TypeError unless `schedule` is an open-loop schedule, a function of progress that others can be made of."""
    if not isinstance(schedule, OpenLoop):
        found = f"the class {schedule.__name__}" if isinstance(schedule, type) else type(schedule).__name__
        raise TypeError(f"{name} must be an open-loop schedule, got {found}: give for example Linear().")
