"""Trainings that are stopped at any moment end as if they never were."""

import functools
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rlsched import Policy
from rlsched.agents import (
    Progress,
    train,
)
from rlsched.agents.evaluation import EvaluationUnit
from rlsched.agents.imitation import LessonUnit, SearchUnit
from rlsched.agents.rollouts import NO_WEIGHTS, InProcess, RolloutUnit, Setting
from tests.families import TINY
from tests.trainings import AHEAD, SMALL, Run, Stop, check_same_end, weights


def written(out: Path) -> int:
    """When the checkpoint in `out` was written, 0 if there is none."""
    path = out / "checkpoint.pt"
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.parametrize(("overlap", "later"), [(False, 1), (False, 2), (True, 1), (True, 3)])
def test_stopped_after_every_checkpoint_it_ends_as_if_it_never_was(whole, whole_ahead, tmp_path, overlap, later):
    """Stopped at the first, second or third report after a checkpoint: between stages and in the midst of them."""
    config, expected = (AHEAD, whole_ahead) if overlap else (SMALL, whole)
    out, stages = tmp_path / "run", []
    for attempt in range(30):
        before = written(out)
        since: list[Progress] = []

        def stop(progress, before=before, since=since):
            if written(out) != before:
                since.append(progress)
                if len(since) == later:
                    stages.append(progress.stage)
                    raise Stop

        told: list[Progress] = []

        def report(progress, told=told, stop=stop):
            told.append(progress)
            stop(progress)

        try:
            policy = train(config, out, tasks=TINY, resume=attempt > 0, report=report)
            break
        except Stop:
            continue
    check_same_end(Run(out, policy, told), expected)
    # After the baselines, the tuning, each of two rounds, and each of three iterations.
    stops = ["tuning tasks", "imitation 1/2", "imitation 2/2", *["learning"] * 4]
    assert stages == stops if later == 1 else len(stages) >= 4


class Failing(InProcess):
    """Stops the training at its nth batch of jobs, and says which kind of job it was; never for n = 0."""

    def __init__(self, setting: Setting, count: int, stopped: list[type]) -> None:
        super().__init__(setting)
        self.count, self.stopped = count, stopped

    def submit(self, jobs, weights=NO_WEIGHTS):
        self.count -= 1
        if self.count == 0:
            self.stopped.append(type(jobs[0]))
            raise Stop
        return super().submit(jobs, weights)


def test_stopped_at_every_kind_of_job_it_ends_as_if_it_never_was(whole, tmp_path):
    """In an evaluation too, when the warm start or an iteration is done and not yet saved."""
    out = tmp_path / "run"
    stopped: list[type] = []
    for number, count in enumerate([2, 3, 2, 3, 3, 0]):
        backend = functools.partial(Failing, count=count, stopped=stopped)
        try:
            policy = train(SMALL, out, tasks=TINY, resume=number > 0, backend=backend)
        except Stop:
            continue
    assert stopped == [SearchUnit, LessonUnit, EvaluationUnit, RolloutUnit, EvaluationUnit]
    check_same_end(Run(out, policy, []), whole)


def test_killed_at_random_moments_it_ends_as_if_it_never_was(whole, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-W", "error", "-m", "tests.resumed", str(out), "6"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    killed, resumed = map(int, done.stdout.split())
    assert killed > 2
    assert resumed > 1
    check_same_end(Run(out, Policy.load(out / "policy.safetensors"), []), whole)


@pytest.mark.parametrize(("kilobytes", "stage"), [(100, "learning"), (30, "imitation 2/2")])
def test_a_full_disk_leaves_the_last_checkpoint_and_policy_as_they_were(whole, tmp_path, kilobytes, stage):
    """No file can grow beyond a limit, from some moment on. The policy file has some 50 kB, a checkpoint 280."""
    out = tmp_path / "run"
    kept: dict[str, bytes] = {}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(progress):
        if progress.stage == stage and not kept:
            kept.update({path.name: path.read_bytes() for path in out.iterdir() if path.is_file()})
            resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, limits[1]))

    try:
        with pytest.raises(OSError, match="File too large"):
            train(SMALL, out, tasks=TINY, report=fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    left = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert left.keys() == kept.keys(), "nothing half-written lies about"
    assert left["checkpoint.pt"] == kept["checkpoint.pt"]
    if kilobytes == 30:
        assert left == kept
    policy = train(SMALL, out, tasks=TINY, resume=True)
    check_same_end(Run(out, policy, []), whole)


# What is told and left behind


def test_a_finished_training_is_resumed_to_the_same_policy(whole):
    before = (whole.out / "checkpoint.pt").read_bytes()
    assert weights(train(SMALL, whole.out, tasks=TINY, resume=True)) == weights(whole.policy)
    assert (whole.out / "checkpoint.pt").read_bytes() == before
