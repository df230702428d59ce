"""What runs in the process of a worker."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ray import cloudpickle


@dataclass(frozen=True)
class Failure:
    """A job's exception: its traceback as text, and itself as a message if it can be sent."""

    trace: str
    cause: bytes | None


class Worker:
    """Does jobs. It keeps nothing of one job for the next.

    Everything comes and goes as bytes that are pickled here and not by Ray: arrays that Ray unpickles lie in its
    store, cannot be written to, and keep the store full for as long as they live.

    Args:
        path: folders to import from, as in the driver; those that this machine does not have are left out.
        threads: of torch.
        setting: the `Setting`, as a message.
    """

    def __init__(self, path: Sequence[str], threads: int, setting: bytes) -> None:
        sys.path[:0] = [folder for folder in path if folder not in sys.path and os.path.isdir(folder)]
        self._threads = threads
        self._setting = cloudpickle.loads(setting)

    def ready(self) -> None:
        """Answered as soon as the worker has a place to run and has its setting."""

    def do(self, job: bytes, weights: bytes) -> bytes:
        """The result of a job or a `Failure`, as a message."""
        torch.set_num_threads(self._threads)  # the job before may have changed it
        try:
            # Copied, so that they lie in memory as those of `InProcess` do: some kernels round by alignment.
            copied = {name: np.array(value) for name, value in cloudpickle.loads(weights).items()}
            return bytes(cloudpickle.dumps(cloudpickle.loads(job).run(self._setting, copied)))
        except Exception as error:  # noqa: BLE001 - a job may raise anything; the driver raises it again
            return bytes(cloudpickle.dumps(Failure(traceback.format_exc(), _message(error))))


def cause(failure: Failure) -> BaseException | None:
    """What was raised, if it can be unpickled here."""
    if failure.cause is None:
        return None
    try:
        found = cloudpickle.loads(failure.cause)
    except Exception:  # noqa: BLE001 - unpickling a user's exception runs the user's code; its text remains
        return None
    return found if isinstance(found, BaseException) else None


def _message(error: Exception) -> bytes | None:
    try:
        return bytes(cloudpickle.dumps(error))
    except Exception:  # noqa: BLE001 - the same
        return None


def pack(value: Any) -> bytes:
    """A message."""
    return bytes(cloudpickle.dumps(value))


def unpack(message: bytes) -> Any:
    """What is in it."""
    return cloudpickle.loads(message)
