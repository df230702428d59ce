"""Argument checks, used where values enter the library.

Each raises an error that names the argument, what it may be, what it was and, where one is known, the
remedy. Code behind the edge trusts what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt


def integer(name: str, value: Any, low: int, high: int | None = None, remedy: str = "") -> int:
    """`value` as an `int` in [low, high]; TypeError if it is no integer, ValueError outside the range."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(_message(name, "an integer", f"{value!r} ({type(value).__name__})", remedy))
    value = int(value)
    if value < low or (high is not None and value > high):
        raise ValueError(_message(name, f"an integer {_interval(low, high)}", repr(value), remedy))
    return value


def real(name: str, value: Any, low: float, high: float = math.inf, remedy: str = "") -> float:
    """`value` as a finite `float` in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(_message(name, "a number", f"{value!r} ({type(value).__name__})", remedy))
    value = float(value)
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(_message(name, f"a finite number {_interval(low, high)}", repr(value), remedy))
    return value


def choice(name: str, value: Any, options: Collection[str], remedy: str = "") -> str:
    """`value` if it is one of `options`."""
    if value not in options:
        raise ValueError(_message(name, f"one of {', '.join(sorted(options))}", repr(value), remedy))
    return str(value)


def vector(name: str, value: Any, remedy: str = "") -> npt.NDArray[np.float64]:
    """`value` as a non-empty one-dimensional float array of finite numbers."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        found = f"{type(value).__name__}"
        raise TypeError(_message(name, "a one-dimensional array of numbers", found, remedy)) from error
    if array.ndim != 1 or array.size == 0:
        found = f"shape {array.shape}"
        raise ValueError(_message(name, "a non-empty one-dimensional array", found, remedy))
    if not np.isfinite(array).all():
        index = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(_message(name, "finite everywhere", f"{array[index]} at index {index}", remedy))
    return array


def _interval(low: float, high: float | None) -> str:
    if high is None or high == math.inf:
        return f">= {low}"
    return f"in [{low}, {high}]"


def _message(name: str, wanted: str, found: str, remedy: str) -> str:
    return f"{name} must be {wanted}, got {found}." + (f" {remedy}" if remedy else "")
