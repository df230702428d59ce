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


class ArgumentError(ValueError):
    """A value from outside is not usable; the message says which, what it may be, and what to do."""


def integer(name: str, value: Any, low: int, high: int | None = None, remedy: str = "") -> int:
    """`value` as an `int` in [low, high]; TypeError if it is no integer, ArgumentError outside the range."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(_message(name, "an integer", f"{value!r} ({type(value).__name__})", remedy))
    value = int(value)
    if value < low or (high is not None and value > high):
        raise ArgumentError(_message(name, f"an integer {_interval(low, high)}", repr(value), remedy))
    return value


def real(name: str, value: Any, low: float, high: float = math.inf, remedy: str = "") -> float:
    """`value` as a finite `float` in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(_message(name, "a number", f"{value!r} ({type(value).__name__})", remedy))
    value = float(value)
    if not math.isfinite(value) or not low <= value <= high:
        raise ArgumentError(_message(name, f"a finite number {_interval(low, high)}", repr(value), remedy))
    return value


def positive(name: str, value: Any, remedy: str = "") -> float:
    """`value` as a finite `float` above 0."""
    number = real(name, value, 0.0, remedy=remedy)
    if number == 0.0:
        raise ArgumentError(_message(name, "a finite number > 0", repr(value), remedy))
    return number


def choice(name: str, value: Any, options: Collection[str], remedy: str = "") -> str:
    """`value` if it is one of `options`."""
    if value not in options:
        raise ArgumentError(_message(name, f"one of {', '.join(sorted(options))}", repr(value), remedy))
    return str(value)


def vector(name: str, value: Any, remedy: str = "") -> npt.NDArray[np.float64]:
    """`value` as a non-empty one-dimensional float array of finite numbers."""
    return _array(name, value, 1, remedy).astype(np.float64)


def one_or_each(name: str, value: Any, count: int, what: str) -> npt.NDArray[np.float64]:
    """(count,) floats from `value`, which is one finite number for all or one for each `what`."""
    array = vector(name, np.atleast_1d(np.asarray(value)))
    if array.size not in (1, count):
        raise ArgumentError(_message(name, f"one number, or one for each of {count} {what}", f"{array.size}", ""))
    return np.broadcast_to(array, count)


def matrix(name: str, value: Any, remedy: str = "") -> npt.NDArray[np.float64]:
    """`value` as a non-empty two-dimensional float array of finite numbers."""
    return _array(name, value, 2, remedy).astype(np.float64)


def labels(name: str, value: Any, remedy: str = "") -> npt.NDArray[np.int64]:
    """`value` as a non-empty one-dimensional array of integers; whole floats are taken as such."""
    array = _array(name, value, 1, remedy)
    fractional = array != np.round(array)
    if fractional.any():
        raise ArgumentError(_message(name, "integers", str(array[fractional][0]), remedy))
    return array.astype(np.int64)


def targets(name: str, value: Any, remedy: str = "") -> npt.NDArray[Any]:
    """`value` as (n,) int64 classes if it holds integers, as (n, t) finite float64 if it holds floats."""
    array = _convert(name, value, "an array of numbers", remedy)
    if array.dtype.kind != "f":
        return labels(name, array, remedy)
    return matrix(name, array, remedy) if array.ndim == 2 else vector(name, array, remedy)[:, None]


def losses(name: str, value: Any, size: int, remedy: str = "") -> npt.NDArray[np.float64]:
    """`value` as an array of `size` floats, which may be NaN or infinite; TypeError for integers and flags."""
    array = _array(name, value, 1, remedy, finite=False)
    if array.dtype.kind != "f":
        raise TypeError(_message(name, "floats", f"{type(value).__name__} of {array.dtype}", remedy))
    if array.size != size:
        raise ArgumentError(_message(name, f"{size} numbers", f"{array.size}", remedy))
    return array.astype(np.float64)


def _array(name: str, value: Any, ndim: int, remedy: str, finite: bool = True) -> npt.NDArray[Any]:
    wanted = f"a non-empty {'one' if ndim == 1 else 'two'}-dimensional array of numbers"
    array = _convert(name, value, wanted, remedy)
    if array.ndim != ndim or array.size == 0:
        raise ArgumentError(_message(name, wanted, f"shape {array.shape}", remedy))
    if array.dtype.kind not in "fiub":
        raise TypeError(_message(name, wanted, f"{type(value).__name__} of {array.dtype}", remedy))
    if finite and not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        where = index[0] if ndim == 1 else index
        raise ArgumentError(_message(name, "finite everywhere", f"{array[index]} at index {where}", remedy))
    return array


def _convert(name: str, value: Any, wanted: str, remedy: str) -> npt.NDArray[Any]:
    if hasattr(value, "detach"):
        value = value.detach().cpu()  # a tensor, perhaps on another device or part of a graph
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(_message(name, wanted, type(value).__name__, remedy)) from error


def _interval(low: float, high: float | None) -> str:
    if high is None or high == math.inf:
        return f">= {low}"
    return f"in [{low}, {high}]"


def _message(name: str, wanted: str, found: str, remedy: str) -> str:
    return f"{name} must be {wanted}, got {found}." + (f" {remedy}" if remedy else "")
