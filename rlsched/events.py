"""What guard rails notice in a run."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

MAX_WARNINGS = 3
"""Events of one kind that are shown as warnings; the rest are only kept."""


@dataclass(frozen=True)
class Event:
    """Something that a guard rail noticed: at which step, of which kind, in words."""

    step: int
    kind: str
    message: str


class EventLog:
    """Keeps the events of a run and passes each on.

    Args:
        on_event: called with each event; None for Python warnings, at most `MAX_WARNINGS` of a kind, which point
            at the line outside of rlsched and torch that led to them.
        record: called with each event, too.
    """

    def __init__(
        self, on_event: Callable[[Event], None] | None, record: Callable[[Event], None] = lambda event: None
    ) -> None:
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event must be callable or None, got {type(on_event).__name__}.")
        self.events: list[Event] = []
        self._on_event, self._record = on_event, record

    def emit(self, step: int, kind: str, message: str, *, once: bool = False) -> None:
        """Keep an event and pass it on, with `once` only if there was none of its kind yet."""
        before = sum(other.kind == kind for other in self.events)
        if once and before:
            return
        event = Event(step, kind, message)
        self.events.append(event)
        self._record(event)
        if self._on_event is not None:
            self._on_event(event)
        elif before < MAX_WARNINGS:
            warnings.warn(message, stacklevel=_depth_of_caller())


def _depth_of_caller() -> int:
    """How many calls above this function's caller the user's code is, as `warnings.warn` counts."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and _is_internal(frame.f_globals.get("__name__", "")):
        frame, depth = frame.f_back, depth + 1
    return depth


def _is_internal(module: str) -> bool:
    return module.split(".")[0] in {"rlsched", "torch"}
