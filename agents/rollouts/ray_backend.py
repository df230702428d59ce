"""Jobs done by the workers of a Ray cluster."""

from __future__ import annotations

import os
import pickle
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from rlsched import _check
from rlsched.agents.rollouts.backend import NO_WEIGHTS, Backend, Done, Pending, ignore
from rlsched.agents.rollouts.errors import ClusterError, NoWorkerError, RolloutError, WorkerError
from rlsched.agents.rollouts.job import Job, Setting, Weights
from rlsched.agents.rollouts.ray_connection import connect, ray, resources
from rlsched.agents.rollouts.ray_dispatch import Dispatch, Limits
from rlsched.agents.rollouts.ray_pool import Pool
from rlsched.agents.rollouts.ray_worker import Failure, Worker, cause, pack, unpack

GLANCE = 1.0
"""Seconds between looks at the clock while nothing happens."""


class RayBackend(Backend):
    """Does jobs by Ray actors, one job each at a time.

    Which worker does a job, and when, makes no difference to its result. A job whose worker died or was late is
    done again by another, and workers that are lost are replaced, so machines may come and go. A worker that has
    no place to run yet joins when there is one.

    If Ray is initialised in this process, its cluster is used and left as it is. One backend at a time should be
    the one that starts Ray: closing it ends Ray in this process.

    Args:
        setting: of all jobs; sent to each worker once.
        workers: how many, at least 1.
        address: of the cluster: "host:port", "auto" for the one of this machine, "local" for a new one, which ends
            with the backend. By default what `RAY_ADDRESS` says, and "local" if it says nothing.
        threads: of torch and BLAS in each worker, at least 1. Results may depend on it by rounding.
        num_cpus: cores that Ray sets aside for each worker.
        num_gpus: GPUs, or parts of one, that Ray sets aside for each worker.
        deadline: seconds, at least 1, that a job may take until its worker counts as hung and is killed.
        max_failures: how often one job may lose its worker, at least 1.
        start_timeout: seconds that there may be no worker with a place to run.

    Raises:
        ArgumentError: an argument is out of range, Ray is not installed, or this machine has no such GPUs.
        ClusterError: there is no cluster at the address, or it does not answer within half a minute.
    """

    def __init__(
        self,
        setting: Setting,
        workers: int,
        *,
        address: str | None = None,
        threads: int = 1,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        deadline: float = 600.0,
        max_failures: int = 3,
        start_timeout: float = 120.0,
    ) -> None:
        self._workers = _check.integer("workers", workers, 1)
        self._threads = _check.integer("threads", threads, 1)
        self._num_cpus = _check.real("num_cpus", num_cpus, 0.0)
        self._num_gpus = _check.real("num_gpus", num_gpus, 0.0)
        self._start_timeout = _check.real("start_timeout", start_timeout, 0.0)
        losses = _check.integer("max_failures", max_failures, 1)
        self._limits = Limits(_check.real("deadline", deadline, 1.0), losses, losses * workers)
        message = _packed(setting)
        self._batch: _Batch | None = None
        self._refused = 0
        self._ours = connect(address, workers, self._num_cpus, self._num_gpus)
        try:
            self._setting = _put(message)
            self._pool: Pool | None = Pool(self._start, workers)
        except BaseException:
            self._end()
            raise

    @property
    def ready(self) -> int:
        """How many workers have a place to run, when last looked."""
        return self._open().ready

    def submit(self, jobs: Sequence[Job], weights: Weights = NO_WEIGHTS) -> Pending:
        """Begin to do `jobs`: each worker that is ready starts on its first one.

        Raises:
            ArgumentError: the results of the jobs before have not been taken yet, or the backend is closed.
            RolloutError: as `results`.
        """
        pool = self._open()
        if self._batch is not None:
            raise _check.ArgumentError("submit takes one batch at a time: call results() of the one before first.")
        batch = self._batch = _Batch(self, jobs, _put(pack(dict(weights))), Dispatch(jobs, self._limits))
        try:
            self._take(pool, batch, 0.0)
            self._deal(pool, batch)
        except BaseException:
            self._abandon(pool)
            raise
        return batch

    def close(self) -> None:
        """Kill the workers, and end Ray if it was started here."""
        if self._pool is not None:
            if ray.is_initialized():
                self._pool.close()
            self._pool = self._batch = None
            self._end()

    def complete(self, batch: _Batch) -> None:
        """Wait until all jobs of `batch` are done; see `Pending.results`."""
        if batch.dispatch.over and batch is not self._batch:
            return
        pool = self._open()
        if batch is not self._batch:
            raise RolloutError("these jobs were given up after an error: submit them again.")
        try:
            while not batch.dispatch.over:
                self._deal(pool, batch)
                self._take(pool, batch, min(GLANCE, batch.dispatch.patience(time.monotonic())))
        except BaseException:
            self._abandon(pool)
            raise
        self._batch = None

    def _deal(self, pool: Pool, batch: _Batch) -> None:
        """Give jobs to the idle."""
        for worker in pool.idle():
            job = batch.dispatch.give(worker, time.monotonic())
            if job is None:
                return
            pool.give(worker, pack(batch.jobs[job]), batch.weights)

    def _take(self, pool: Pool, batch: _Batch, timeout: float) -> None:
        """Take what has come within `timeout` seconds; then see who is late."""
        for worker, reference in pool.answers(timeout):
            try:
                message = ray.get(reference)
            except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
                raise _store_full(error) from error
            except ray.exceptions.RayError as error:
                self._lose(pool, batch, worker, error)
                continue
            result = unpack(message)
            if isinstance(result, Failure):
                pool.drop(worker)
                batch.dispatch.fail(worker, result.trace, cause(result))
            else:
                self._refused = 0
                batch.keep(batch.dispatch.finish(worker), result)
        for worker in batch.dispatch.late(time.monotonic()):
            pool.drop(worker)
            batch.dispatch.lose(worker, f"it was not done after {self._limits.deadline:g} s, the deadline")
        if pool.seconds_without > self._start_timeout:
            raise NoWorkerError(
                f"no worker has had a place to run for {self._start_timeout:g} s. Each of {self._workers} asks "
                f"for {self._num_cpus:g} CPU and {self._num_gpus:g} GPU; the cluster has {resources()}. Ask for "
                "less, add machines (`ray start --address=...`), or raise start_timeout if they come later."
            )

    def _lose(self, pool: Pool, batch: _Batch, worker: int, error: Exception) -> None:
        """A worker is dead, or was never born: then its setting cannot be read, or its packages differ."""
        pool.drop(worker)
        if getattr(error, "actor_init_failed", False):
            self._refused += 1
            if self._refused > 1:
                raise WorkerError(
                    "workers cannot start. Every machine needs rlsched, the packages and the modules that the "
                    f"tasks come from, in the same versions; see docs/cluster.md. A worker says:\n\n{error}"
                ) from error
        batch.dispatch.lose(worker, _why(error))

    def _start(self) -> Any:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self._threads))
        options = {
            "num_cpus": self._num_cpus,
            "num_gpus": self._num_gpus,
            "max_restarts": 0,  # a worker is replaced, not restarted: the pool knows what it did
            "runtime_env": {"env_vars": threads},
        }
        return ray.remote(Worker).options(**options).remote(_foreign(sys.path), self._threads, self._setting)

    def _open(self) -> Pool:
        if self._pool is None:
            raise _check.ArgumentError("the backend is closed: make a new one.")
        if not ray.is_initialized():
            raise ClusterError("Ray was shut down in this process while the backend was open: make a new one.")
        return self._pool

    def _abandon(self, pool: Pool) -> None:
        """After an error: leave no worker with a job that nobody waits for."""
        self._batch = None
        pool.drop_busy()

    def _end(self) -> None:
        if self._ours:
            ray.shutdown()


class _Batch(Pending):
    """Jobs that a `RayBackend` does."""

    def __init__(self, backend: RayBackend, jobs: Sequence[Job], weights: Any, dispatch: Dispatch) -> None:
        self._backend, self.jobs, self.weights, self.dispatch = backend, list(jobs), weights, dispatch
        self._results: list[Any] = [None] * len(self.jobs)
        self._done: Done = ignore

    def results(self, done: Done = ignore) -> list[Any]:
        """See `Pending`.

        Raises:
            WorkerError: a job raised, twice, or workers cannot start.
            LostJobError: workers died or were late too often.
            NoWorkerError: there was no worker for `start_timeout` seconds.
            ClusterError: Ray cannot hold the results, or was shut down.
        """
        self._done = done
        self._backend.complete(self)
        return self._results

    def keep(self, job: int, result: Any) -> None:
        """The result of a job has come."""
        self._results[job] = result
        self._done(job, result)


def _packed(setting: Setting) -> bytes:
    try:
        return pack(setting)
    except (TypeError, ValueError, AttributeError, pickle.PicklingError) as error:
        raise _check.ArgumentError(
            f"setting must be picklable, since workers are other processes: {error}. Define what the tasks are "
            "made of at the top level of a module, and make open files, locks and generators inside the function."
        ) from error


def _put(message: bytes) -> Any:
    try:
        return ray.put(message)
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
        raise _store_full(error) from error


def _store_full(error: Exception) -> ClusterError:
    return ClusterError(
        "Ray's object store is full: use smaller or fewer rollout units, or start Ray with more, by "
        f"`ray start --object-store-memory BYTES`. Ray says: {_why(error)}"
    )


def _foreign(path: Sequence[str]) -> list[str]:
    """The folders of `path` that belong to no Python installation: where the user's own modules are."""
    own = (sys.prefix, sys.base_prefix, sys.exec_prefix)
    absolute = [os.path.abspath(folder) for folder in path]
    return [folder for folder in absolute if os.path.isdir(folder) and not folder.startswith(own)]


def _why(error: Exception) -> str:
    """What Ray says of a lost worker, in short."""
    text = str(error)
    where = dict(re.findall(r"^\s*(pid|ip): (\S+)$", text, flags=re.MULTILINE))
    if isinstance(error, ray.exceptions.ActorDiedError) and len(where) == 2:
        return f"its process {where['pid']} on {where['ip']} died"
    return " ".join(text.split())[:300] or type(error).__name__
