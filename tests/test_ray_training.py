"""Whole trainings on Ray workers: the same policy by any number of them, whoever is killed."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlsched import Policy
from rlsched.agents import train
from rlsched.agents.presets import QUICK
from rlsched.experiments.config_file import read_config
from rlsched.experiments.task_family import task_family
from tests.families import TINY
from tests.trainings import SMALL, weights

pytest.importorskip("ray")

CONFIG = """
warm_start = {groups = 2, group_tasks = 2, rounds = 2, copies = 1, epochs = 2, minibatch = 50}
rollouts = {units = 2, slots = 2, repeats = 2}
ppo = {iterations = 4, minibatch = 50, epochs = 2}
evaluation = {every = 2, groups = 2, group_tasks = 2}
"""
PATIENCE = 240.0
"""Seconds after which a test gives up on a busy machine."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The policy of this process alone."""
    return weights(train(SMALL, tmp_path_factory.mktemp("alone") / "run", tasks=TINY))


@pytest.mark.parametrize("workers", [1, 4])  # by two: below, where they are killed as well
def test_the_policy_is_the_same_by_any_number_of_workers(workers, ray_cluster, alone, tmp_path):
    from rlsched.agents.rollouts.ray_backend import RayBackend

    backend = functools.partial(RayBackend, workers=workers)
    assert weights(train(SMALL, tmp_path / "run", tasks=TINY, backend=backend)) == alone


def test_workers_that_are_killed_all_along_do_not_change_the_policy(ray_cluster, alone, tmp_path):
    from rlsched.agents.rollouts.ray_backend import RayBackend

    killed: list[int] = []

    def kill(progress):
        """One worker at the beginning of every stage, and all at once in the middle of one."""
        found = _actors()
        chosen = found[:1] if progress.done == 0 else found if progress.stage == "learning" else []
        for pid in chosen:
            os.kill(pid, signal.SIGKILL)
        killed.extend(chosen)

    backend = functools.partial(RayBackend, workers=2)
    assert weights(train(SMALL, tmp_path / "run", tasks=TINY, backend=backend, report=kill)) == alone
    assert len(set(killed)) >= 5


def _actors() -> list[int]:
    """The workers of this process's own Ray: children of its raylet, as they name themselves."""
    processes = [_process(path) for path in Path("/proc").glob("[0-9]*")]
    raylets = {pid for pid, parent, name in processes if parent == os.getpid() and "raylet" in name}
    return [pid for pid, parent, name in processes if parent in raylets and name.startswith("ray::Worker")]


def _process(path: Path) -> tuple[int, int, str]:
    """Process, its parent and its command line; without these if it has just ended."""
    try:
        parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        return int(path.name), parent, (path / "cmdline").read_text().replace("\0", " ")
    except (OSError, ValueError):
        return 0, 0, ""


def test_a_driver_that_is_killed_resumes_with_workers_to_the_policy_of_one_process(tmp_path):
    (tmp_path / "tiny.toml").write_text(CONFIG)
    config = read_config(tmp_path / "tiny.toml", QUICK)
    whole = train(config, tmp_path / "whole", tasks=task_family(config.tasks))

    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    driver = _train(tmp_path, "killed", "--workers", "2")
    deadline, seen = time.monotonic() + PATIENCE, 0
    # The checkpoint is written anew after every step: kill the driver after some of them.
    stamp = 0
    while seen < 6 and driver.poll() is None and time.monotonic() < deadline:
        new = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        seen, stamp = seen + (new != stamp), new
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert seen == 6, "killed too late, or it never began"

    assert _train(tmp_path, "killed", "--workers", "2", "--resume").wait(PATIENCE) == 0
    resumed = Policy.load(tmp_path / "killed" / "policy.safetensors")
    assert weights(resumed) == weights(whole)
    assert resumed.metadata.evaluation == whole.metadata.evaluation


def _train(folder: Path, name: str, *flags: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "rlsched.experiments.cli", "train", "--preset", "quick", "--config", "tiny.toml",
        "--out", name, "--no-pictures", *flags,
    ]  # fmt: skip
    if "--resume" in flags:
        command = [word for word in command if word not in ("--preset", "quick", "--config", "tiny.toml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
