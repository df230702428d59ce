"""Whether two objects mean the same computation."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_MODULES_OWN = frozenset(vars(nn.Module()))
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type, torch.dtype, torch.device, torch.Size)


def fingerprint(value: Any) -> Hashable:
    """Equal for two values that certainly mean the same; of what it does not know, only for one and the same."""
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return "tensor", tuple(value.shape), value.dtype, _digest(value.contiguous().view(-1).numpy())
    if isinstance(value, np.ndarray) and value.dtype != object:
        return "array", value.shape, value.dtype.str, _digest(value)
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(fingerprint, value))
    if isinstance(value, Mapping):
        return type(value), tuple((fingerprint(key), fingerprint(item)) for key, item in value.items())
    if isinstance(value, functools.partial):
        return "partial", fingerprint(value.func), fingerprint(value.args), fingerprint(value.keywords)
    if isinstance(value, types.FunctionType):
        cells = tuple(fingerprint(cell.cell_contents) for cell in value.__closure__ or ())
        defaults = fingerprint(value.__defaults__), fingerprint(value.__kwdefaults__)
        return "function", value.__module__, value.__qualname__, value.__code__, cells, defaults
    return "object", id(value)


def structure(model: nn.Module) -> Hashable:
    """What two models must agree in to be rows of one stack: all but the values of parameters and buffers."""
    modules = tuple((name, type(module), _settings(module)) for name, module in model.named_modules())
    parameters = tuple(
        (name, tuple(p.shape), p.dtype) for name, p in model.named_parameters(remove_duplicate=False)
    )
    buffers = tuple((name, tuple(b.shape), b.dtype) for name, b in model.named_buffers())
    # Tied parameters are the same one under two names.
    order = {id(p): index for index, p in enumerate(model.parameters())}
    ties = tuple(order[id(p)] for _, p in model.named_parameters(remove_duplicate=False))
    return modules, parameters, ties, buffers


def state(model: nn.Module) -> Hashable:
    """What a stateless model does not change by being called: its settings and buffers."""
    return structure(model), tuple(fingerprint(buffer) for buffer in model.buffers())


def _settings(module: nn.Module) -> Hashable:
    """All attributes of a module that are its own class's, by name."""
    own = {key: value for key, value in vars(module).items() if key not in _MODULES_OWN}
    return tuple((key, fingerprint(own[key])) for key in sorted(own))


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
