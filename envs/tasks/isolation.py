"""Calling a user's code without it or the run changing each other."""

from __future__ import annotations

import contextlib
import copy
import inspect
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seeds the global generators of torch, NumPy and Python inside, and restores them after."""
    # It is others' code that uses NumPy's global generator.
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


def fresh_copy(model: nn.Module, generator: torch.Generator | None) -> nn.Module:
    """A deep copy of `model`; with a generator, its layers draw new weights where they know how to.

    Layers that do have a `reset_parameters`, as all of torch's own with weights. Parameters of modules without
    one keep their values.
    """
    copied = copy.deepcopy(model)
    if generator is None:
        return copied
    with own_randomness(int(torch.randint(2**31, (), generator=generator))):
        # From the inside out: a module may set again what its parts have drawn.
        for module in reversed(list(copied.modules())):
            # `nn.MultiheadAttention` and `nn.Transformer` spell it with an underscore.
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset) and not _needs_arguments(reset):
                reset()
    return copied


def _needs_arguments(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    return False
