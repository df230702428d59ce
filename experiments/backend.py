"""Where the jobs of a command are done."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rlsched import _check
from rlsched.agents.rollouts import Backend, InProcess, Setting

DEADLINE = 1800.0
"""Seconds; the longest jobs of the families here, searches on sequence models, take minutes."""


def choose_backend(
    workers: int, address: str | None, num_gpus: float = 0.0, deadline: float = DEADLINE
) -> Callable[[Setting], Backend]:
    """What makes the backend of `workers` processes; Ray is imported only if there are any."""
    if not _check.integer("workers", workers, 0):
        if address is not None:
            raise _check.ArgumentError(f"workers must be at least 1 with a ray_address ({address}), got 0.")
        return InProcess
    from rlsched.agents.rollouts.ray_backend import RayBackend

    options: dict[str, Any] = {"address": address, "num_gpus": num_gpus, "deadline": deadline}
    return functools.partial(RayBackend, workers=workers, **options)
