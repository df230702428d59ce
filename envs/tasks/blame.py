"""Errors in a user's code, told as such."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

_NOT_THE_USERS = ("rlsched", "torch")


@contextlib.contextmanager
def blame(function: str, part: str) -> Iterator[None]:
    """Adds to whatever is raised inside which part of what `function` returned was being called, and where."""
    try:
        yield
    except Exception as error:
        where = ""
        for frame, line in traceback.walk_tb(error.__traceback__):
            if str(frame.f_globals.get("__name__")).split(".")[0] not in _NOT_THE_USERS:
                where = f" (line {line} of {frame.f_code.co_filename})"
        raise ValueError(f"{function}: {part} failed: {type(error).__name__}: {error}{where}") from error
