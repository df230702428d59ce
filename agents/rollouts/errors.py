"""What can go wrong where jobs are done by other processes."""

from __future__ import annotations


class RolloutError(RuntimeError):
    """Jobs could not be done; the message says why and what to do."""


class WorkerError(RolloutError):
    """A job raised, twice; the message holds the worker's own traceback, `__cause__` what was raised."""


class LostJobError(RolloutError):
    """Workers died or were late too often."""


class NoWorkerError(RolloutError):
    """For too long, no worker had a place to run."""


class ClusterError(RolloutError):
    """Ray cannot be reached, or cannot hold what it is given."""
