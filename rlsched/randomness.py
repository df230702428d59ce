"""The global random generators of one purpose, kept apart from everyone else's."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


class Randomness:
    """What dropout, losses and data sets of others' code draw from while `with randomness():` lasts.

    torch's generators (of CUDA too, where it is in use), NumPy's global one and Python's. They follow from the
    seed and go on where they were, whatever is drawn outside; those outside do not notice.

    Args:
        seed: at least 0.
    """

    def __init__(self, seed: int) -> None:
        self.states: dict[str, Any] = {
            "torch": torch.Generator().manual_seed(seed).get_state(),
            "cuda": [
                torch.Generator(f"cuda:{device}").manual_seed(seed).get_state()
                for device in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
            ],
            "numpy": np.random.RandomState(seed % 2**32).get_state(),
            "python": random.Random(seed).getstate(),
        }

    @contextlib.contextmanager
    def __call__(self, keep: bool = True) -> Iterator[None]:
        """The generators are these inside, and as before afterwards. Off `keep`, nothing counts as drawn."""
        outside = _states()
        _set(self.states)
        try:
            yield
        finally:
            if keep:
                self.states = _states()
            _set(outside)


def _states() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": np.random.get_state(),  # noqa: NPY002 (others' code draws from it)
        "python": random.getstate(),
    }


def _set(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    for device, state in enumerate(states["cuda"]):
        torch.cuda.set_rng_state(state, device)
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["python"])
