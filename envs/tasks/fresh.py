"""Copies of a user's model with weights of their own."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import torch
from torch import nn

from rlsched.randomness import Randomness


def fresh_copy(model: nn.Module, generator: torch.Generator | None) -> nn.Module:
    """A deep copy of `model`; with a generator, its layers draw new weights where they know how to.

    Layers that do have a `reset_parameters`, as all of torch's own with weights. Parameters of modules without
    one keep their values.
    """
    copied = copy.deepcopy(model)
    if generator is None:
        return copied
    with Randomness(int(torch.randint(2**31, (), generator=generator)))():
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
