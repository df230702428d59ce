"""What guard rails notice in a run."""

from __future__ import annotations

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
        on_event: called with each event; None for Python warnings, at most `MAX_WARNINGS` of a kind.
    """

    def __init__(self, on_event: Callable[[Event], None] | None) -> None:
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event must be callable or None, got {type(on_event).__name__}.")
        self.events: list[Event] = []
        self._on_event = on_event

    def emit(self, event: Event, stacklevel: int = 0) -> None:
        """Keep `event` and pass it on; a warning points `stacklevel` calls above the caller of this."""
        self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)
        elif sum(other.kind == event.kind for other in self.events) <= MAX_WARNINGS:
            warnings.warn(event.message, stacklevel=stacklevel + 2)
