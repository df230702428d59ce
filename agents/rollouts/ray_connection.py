"""The way to a Ray cluster: one of one's own on this machine, or one that runs already."""

from __future__ import annotations

import logging
import math
import os
import socket
import subprocess
import sys
import warnings
from typing import Any

from rlsched._check import ArgumentError
from rlsched.agents.rollouts.errors import ClusterError

try:
    import ray
except ModuleNotFoundError as error:
    raise ArgumentError("Workers need Ray, which is not installed: pip install 'rlsched[ray]'") from error

REACH, JOIN = 5.0, 25.0
"""Seconds to wait for a connection to the address, and to join the cluster there."""

STORE, STORE_PER_WORKER = 100_000_000, 25_000_000
"""Bytes of the object store: a rollout unit is about a megabyte, and each worker has one on its way."""

JOINED = "joined"
TRIAL = f"""
import logging, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
print({JOINED!r})
"""


def connect(address: str | None, workers: int, num_cpus: float, num_gpus: float) -> bool:
    """Make Ray ready in this process; whether we did, and have to end it, and not the caller before.

    Args:
        address: "host:port", "auto" for the cluster of this machine, "local" for a new one; None for what
            `RAY_ADDRESS` says, and "local" if it says nothing.
        workers: of a cluster of our own, how many find a place.
        num_cpus: cores that each takes there.
        num_gpus: GPUs that each takes there.

    Raises:
        ArgumentError: `address` is none, or a cluster of our own cannot have what the workers ask for.
        ClusterError: there is no cluster, it does not answer, or one of our own cannot be started.
    """
    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise ArgumentError(
            f'address must be "host:port", "auto" or "local", got {address!r}: Ray Client is not supported. Run '
            "on a machine of the cluster, or send the whole training there with `ray job submit`."
        )
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address != "local":
        _check_answers(address)
    with warnings.catch_warnings():
        # Advice on the GPUs of actors that have none, which Ray gives where there are GPUs.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"ray\.")
        try:
            if address == "local":
                places, store = math.ceil(workers * num_cpus), STORE + workers * STORE_PER_WORKER
                ray.init("local", num_cpus=places, object_store_memory=store, include_dashboard=False, **quiet)
            else:
                ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            what = "start on this machine" if address == "local" else f"join the cluster at {address}"
            raise ClusterError(f"Ray could not {what}: {error}") from error
    if address == "local":
        _check_fits(num_gpus)
    return True


def resources() -> str:
    """What the cluster has, in words."""
    total, free = ray.cluster_resources(), ray.available_resources()
    named = [name for name in sorted(total) if name in ("CPU", "GPU")]
    return ", ".join(f"{total[name]:g} {name} ({free.get(name, 0.0):g} free)" for name in named) or "no CPU"


def _check_fits(num_gpus: float) -> None:
    """Refuse at once what would wait forever: nothing joins a cluster of our own."""
    have = ray.cluster_resources().get("GPU", 0.0)
    if num_gpus > have:
        ray.shutdown()
        raise ArgumentError(f"num_gpus must be at most the {have:g} GPUs of this machine, got {num_gpus:g}.")


def _check_answers(address: str) -> None:
    """Try in a process that can be ended: `ray.init` waits minutes for a cluster that is not there."""
    if address != "auto":
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            raise ArgumentError(f'address must be "host:port", "auto" or "local", got {address!r}.')
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()
        except (OSError, OverflowError) as error:
            raise ClusterError(
                f"nothing answers at the Ray address {address} ({error}): check it with `ray status` on the head "
                "node, where `ray start --head` prints it; look for a firewall."
            ) from error
    said, late = _trial(address)
    if late:
        raise ClusterError(
            f"the Ray cluster at {address} did not let us join within {JOIN:g} s: is it a Ray head, of the same "
            f"version of Ray ({ray.__version__}), and has `ray start` been run on this machine too? {said}"
        )
    if JOINED not in said:
        raise ClusterError(f"the Ray cluster at {address} cannot be joined: {said}")


def _trial(address: str) -> tuple[str, bool]:
    """The last line that joining the cluster says, and whether it took too long."""
    command = [sys.executable, "-c", TRIAL, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=JOIN, check=False)
    except subprocess.TimeoutExpired as error:
        return _last_line(error.stderr.decode() if isinstance(error.stderr, bytes) else ""), True
    return (JOINED if done.returncode == 0 else _last_line(done.stderr)), False


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
