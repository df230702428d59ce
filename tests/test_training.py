"""Training: reproducible to the bit, resumed from any moment, and it learns."""

import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import platform
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils import seeding

import rlsched
from rlsched import Policy
from rlsched.action import ActionSpec
from rlsched.agents import (
    EvaluationSettings,
    PPOSettings,
    Progress,
    RolloutPlan,
    TaskSettings,
    TrainConfig,
    WarmStart,
    train,
)
from rlsched.agents.evaluation import BaselineUnit, EvaluationUnit, evaluation_seeds, join_outcomes
from rlsched.agents.imitation import LessonUnit, SearchUnit
from rlsched.agents.rollouts import NO_WEIGHTS, InProcess, Job, RolloutUnit, Setting, Weights
from rlsched.envs.tasks import Digits, DigitsConfig, Task, TaskConfig, TaskFamily
from rlsched.policy import PolicyInterface
from tests.families import TINY, Recorded, TooLow
from tests.trainings import SMALL, weights

AHEAD = dataclasses.replace(SMALL, rollouts=dataclasses.replace(SMALL.rollouts, overlap=True))
BRIEF = TrainConfig(
    warm_start=WarmStart(groups=0),
    rollouts=RolloutPlan(units=1, slots=4, decisions=10),
    ppo=PPOSettings(iterations=1, minibatch=20, epochs=1),
    evaluation=EvaluationSettings(groups=1, group_tasks=3),
)
"""PPO alone, for one iteration."""


class Stop(Exception):
    """The training is interrupted."""


@dataclass
class Run:
    """A training in a folder, as it went."""

    out: Path
    policy: Policy
    told: list[Progress]

    @property
    def checkpoint(self) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(self.out / "checkpoint.pt", weights_only=True)
        return found


def run(config: TrainConfig, out: Path, tasks: TaskFamily = TINY) -> Run:
    told: list[Progress] = []
    return Run(out, train(config, out, tasks=tasks, report=told.append), told)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    return run(SMALL, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def whole_ahead(tmp_path_factory) -> Run:
    return run(AHEAD, tmp_path_factory.mktemp("ahead") / "run")


def check_equal(one: Any, other: Any, where: str = "") -> None:
    """Fail unless two checkpoints, or parts of them, agree bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name, value in one.items():
            check_equal(value, other[name], f"{where}/{name}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            check_equal(mine, theirs, f"{where}/{number}")
    else:
        assert one == other or (one != one and other != other), where


def check_same_end(one: Run, other: Run) -> None:
    """Fail unless two trainings ended alike: policy, figures, and all that a further step would depend on."""
    assert weights(one.policy) == weights(other.policy)
    assert one.policy.metadata.evaluation == other.policy.metadata.evaluation
    assert one.policy.metadata.action == other.policy.metadata.action
    settings = [dict(each.policy.metadata.training) for each in (one, other)]
    for each in settings:
        each.pop("made_with")  # a colleague may commit between two trainings
    assert settings[0] == settings[1]
    check_equal(one.checkpoint, other.checkpoint)


def test_training_is_reproducible_bit_for_bit(whole, tmp_path):
    np.random.seed(7)  # noqa: NPY002 - what was drawn before plays no part
    torch.manual_seed(7)
    check_same_end(run(SMALL, tmp_path / "again"), whole)
    one, other = (run(dataclasses.replace(BRIEF, seed=seed), tmp_path / str(seed)) for seed in (1, 2))
    assert weights(one.policy) != weights(other.policy)


def test_units_ahead_are_another_training_and_reproducible_too(whole, whole_ahead, tmp_path):
    check_same_end(run(AHEAD, tmp_path / "again"), whole_ahead)
    last = [each.checkpoint["policy"]["mlp_extractor.actor.lr_head.weight"] for each in (whole, whole_ahead)]
    assert not torch.equal(*last)


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


def test_the_exported_policy_is_the_best_one_evaluated(whole):
    scores = [progress.score for progress in whole.told if progress.stage == "learning"]
    assert len(scores) == 1 + 3
    assert all(math.isfinite(score) for score in scores)
    best = whole.policy.metadata.evaluation["score"]
    assert best == pytest.approx(whole.told[-1].best)
    assert best <= min(scores) + 1e-12
    # Scored again by its file alone.
    units = [EvaluationUnit(seed, 3) for seed in evaluation_seeds(0, 2)]
    found = join_outcomes(InProcess(Setting(TINY, PolicyInterface())).run(units, whole.policy.tensors))
    assert found.scores.mean() == pytest.approx(best, abs=1e-6)
    assert whole.policy.metadata.evaluation["tasks"] == 6


def test_progress_tells_every_step_of_every_stage(whole):
    steps = [(progress.stage, progress.done, progress.total) for progress in whole.told]
    # In the first round, the tasks of the second are tuned besides.
    stages = {"baselines": 2, "tuning tasks": 2, "imitation 1/2": 2 + 2, "imitation 2/2": 2, "learning": 3}
    assert steps == [(stage, done, total) for stage, total in stages.items() for done in range(total + 1)]
    last = whole.told[-1]
    assert last.default == whole.policy.metadata.evaluation["best_default"]
    assert last.tuned == whole.policy.metadata.evaluation["tuned_linear"]
    assert math.isfinite(last.mean_return)
    assert math.isnan(whole.told[0].best)


def test_the_best_score_only_falls_and_is_the_lowest(whole):
    scores, best = (
        [getattr(progress, name) for progress in whole.told if math.isfinite(progress.score)]
        for name in ("score", "best")
    )
    np.testing.assert_array_equal(best, np.minimum.accumulate(best))
    assert all(low <= score for low, score in zip(best, scores, strict=True))


def test_settings_and_what_it_was_made_with_are_stored_beside_the_policy(whole):
    stored = json.loads((whole.out / "config.json").read_text())
    trained = dict(whole.policy.metadata.training)
    # Two warm starts are followed by PPO; which of them was best decides the number.
    assert trained.pop("decisions") % (2 * 4 * 15) == 0
    assert stored == trained
    assert stored["distribution"] == repr(TINY)
    made_with = stored.pop("made_with")
    stored.pop("distribution")
    assert stored == json.loads(json.dumps(dataclasses.asdict(SMALL)))
    assert made_with.pop("rlsched") == rlsched.__version__
    assert made_with.pop("python") == platform.python_version()
    command = ["git", "-C", str(Path(__file__).parent), "log", "-20", "--format=%H"]
    commits = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    git = made_with.pop("git")
    if commits:
        assert any(commit.startswith(git.removesuffix("-dirty")) for commit in commits)
    assert made_with == {name: importlib.metadata.version(name) for name in made_with}
    assert {"numpy", "torch", "gymnasium", "stable-baselines3"} == set(made_with)


def test_the_action_decoding_is_the_configs(tmp_path):
    config = dataclasses.replace(BRIEF, action=ActionSpec(max_move=0.3))
    policy = run(config, tmp_path / "run").policy
    assert policy.metadata.action.max_move == 0.3
    assert weights(policy) != weights(run(BRIEF, tmp_path / "other").policy)


def test_without_a_curriculum_all_tasks_keep_their_natural_mixture(tmp_path):
    tasks = Recorded(TINY)
    config = dataclasses.replace(SMALL, tasks=TaskSettings(curriculum=False))
    found = run(config, tmp_path / "run", tasks)
    assert tasks.built
    assert not any(config.curriculum for config in tasks.built)
    assert "Natural" in found.policy.metadata.training["distribution"]


def test_the_warm_start_alone_is_a_training_too(tmp_path):
    config = dataclasses.replace(SMALL, ppo=dataclasses.replace(SMALL.ppo, iterations=0))
    found = run(config, tmp_path / "run")
    assert found.told[-1].stage == "imitation 2/2"
    assert math.isfinite(found.policy.metadata.evaluation["score"])
    assert found.policy.metadata.training["decisions"] == 0
    again = train(config, tmp_path / "run", tasks=TINY, resume=True)
    assert weights(again) == weights(found.policy)


def test_a_finished_training_is_resumed_to_the_same_policy(whole):
    before = (whole.out / "checkpoint.pt").read_bytes()
    assert weights(train(SMALL, whole.out, tasks=TINY, resume=True)) == weights(whole.policy)
    assert (whole.out / "checkpoint.pt").read_bytes() == before


# Seeds


@dataclass
class Watched(Recorded):
    """Knows which kind of job its tasks are built for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.job: Job | None = None
        self.data: dict[bool, set[int]] = {True: set(), False: set()}

    def build(self, config: TaskConfig) -> Task:
        self.data[isinstance(self.job, (EvaluationUnit, BaselineUnit))].add(config.data_seed)
        return super().build(config)


class Watching(InProcess):
    """Does jobs one by one, and says which."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.tasks: Any = setting.tasks

    def submit(self, jobs, weights=None):
        wrapped = [Announced(job, self.tasks) for job in jobs]
        return super().submit(wrapped, weights or {})


@dataclass
class Announced:
    job: Job
    tasks: Watched

    def run(self, setting: Setting, weights: Weights) -> Any:
        self.tasks.job = self.job
        found = self.job.run(setting, weights)
        self.tasks.job = None
        return found


def test_nothing_that_is_evaluated_on_is_ever_trained_on(tmp_path, monkeypatch):
    """Seeds of jobs, of the generators within them, and of the data they build."""
    tasks, draw = Watched(TINY), seeding.np_random
    drawn: dict[bool, set[int]] = {True: set(), False: set()}
    kinds = set()

    def watched(seed=None):
        if tasks.job is not None:
            kinds.add(type(tasks.job))
            drawn[isinstance(tasks.job, (EvaluationUnit, BaselineUnit))].add(seed)
        return draw(seed)

    monkeypatch.setattr(seeding, "np_random", watched)
    train(SMALL, tmp_path / "run", tasks=tasks, backend=Watching)
    assert kinds == {EvaluationUnit, BaselineUnit, RolloutUnit, SearchUnit, LessonUnit}
    evaluated, trained = drawn[True], drawn[False]
    assert evaluated == set(evaluation_seeds(0, 2))
    assert all(seed % 2 == 1 for seed in evaluated)
    assert all(seed % 2 == 0 for seed in trained)
    # Two pairs of peers in each of two units of three iterations; in each of two rounds two searches, and lessons
    # on each. A lesson draws its tasks anew from the seed of their search.
    assert len(trained) == 2 * 2 * 3 + 2 * 2 + 2 * 2
    assert tasks.data[True]
    assert tasks.data[False]
    assert not tasks.data[True] & tasks.data[False]


# Refusals


def test_a_folder_that_holds_a_run_is_not_overwritten(whole):
    with pytest.raises(FileExistsError, match=r"holds a training run: pass --resume to continue it"):
        train(SMALL, whole.out, tasks=TINY)


def test_resuming_is_refused_where_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint to resume from: start without --resume"):
        train(BRIEF, tmp_path / "none", tasks=TINY, resume=True)

    def stop(progress):
        raise Stop

    with pytest.raises(Stop):
        train(BRIEF, tmp_path / "early", tasks=TINY, report=stop)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        train(BRIEF, tmp_path / "early", tasks=TINY, resume=True)
    # There is nothing to lose: it may start anew.
    train(BRIEF, tmp_path / "early", tasks=TINY)


def test_resuming_with_other_settings_is_refused_and_says_which(whole):
    other = dataclasses.replace(
        SMALL, seed=3, ppo=dataclasses.replace(SMALL.ppo, iterations=9), action=ActionSpec(max_move=0.5)
    )
    wanted = (
        r"other settings of action.max_move \(was 0.7, now 0.5\), ppo.iterations \(was 3, now 9\), "
        r"seed \(was 0, now 3\): resume it with those, or give another --out"
    )
    with pytest.raises(ValueError, match=wanted):
        train(other, whole.out, tasks=TINY, resume=True)
    with pytest.raises(ValueError, match=r"other settings of distribution \(was Digits\(.*now Digits\("):
        train(SMALL, whole.out, tasks=dataclasses.replace(TINY, max_steps=19), resume=True)


def test_damaged_files_are_refused_with_the_remedy(tmp_path):
    out = tmp_path / "run"
    run(BRIEF, out)
    whole = (out / "checkpoint.pt").read_bytes()
    for damaged in (b"PK\x03\x04 not a checkpoint", whole[: len(whole) // 2], b""):
        (out / "checkpoint.pt").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cannot resume from .*start afresh in another folder"):
            train(BRIEF, out, tasks=TINY, resume=True)
    (out / "checkpoint.pt").write_bytes(whole)
    (out / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged .*start afresh in another folder"):
        train(BRIEF, out, tasks=TINY, resume=True)


def test_a_checkpoint_that_would_run_code_is_not_read(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    out = tmp_path / "run"
    run(BRIEF, out)
    torch.save({"policy": Bomb()}, out / "checkpoint.pt")
    with pytest.raises(ValueError, match="cannot resume from"):
        train(BRIEF, out, tasks=TINY, resume=True)
    assert not (tmp_path / "exploded").exists()


def test_episodes_longer_than_a_rollout_are_refused(tmp_path):
    class Long(Digits):
        def sample(self, rng: np.random.Generator) -> DigitsConfig:
            return dataclasses.replace(super().sample(rng), num_steps=300, num_decisions=150)

    with pytest.raises(ValueError, match=r"num_decisions must be at most 10 in every task, got 150: raise"):
        train(BRIEF, tmp_path / "run", tasks=Long())
    assert not (tmp_path / "run").exists()


def test_what_is_no_family_of_tasks_is_refused(tmp_path):
    tasks: Any = Digits
    with pytest.raises(TypeError, match="tasks must be a TaskFamily, got the class Digits"):
        train(BRIEF, tmp_path / "run", tasks=tasks)


def test_configs_name_the_field_that_is_wrong():
    for make, fields, words in (
        (PPOSettings, {"iterations": -1}, "iterations must be an integer >= 0, got -1"),
        (PPOSettings, {"learning_rate": -1.0}, "learning_rate must be a finite number"),
        (PPOSettings, {"gae_lambda": 2.0}, "gae_lambda must be a finite number in"),
        (PPOSettings, {"minibatch": 1}, "minibatch must be an integer >= 2, got 1"),
        (EvaluationSettings, {"every": 0}, "every must be an integer >= 1, got 0"),
        (TaskSettings, {"family": "x"}, "family must be one of"),
        (TaskSettings, {"unstackable": "x"}, "unstackable must be one of eager, refuse"),
        (WarmStart, {"rounds": 0}, "rounds must be an integer >= 1, got 0"),
        (WarmStart, {"groups": -1}, "groups must be an integer >= 0, got -1"),
        (TrainConfig, {"seed": -1}, r"seed must be an integer in \[0, 4294967295\], got -1"),
        (
            TrainConfig,
            {"ppo": PPOSettings(minibatch=30)},
            r"must divide units x slots x decisions \(12800\)",
        ),
        (
            TrainConfig,
            {"warm_start": WarmStart(groups=0), "ppo": PPOSettings(iterations=0)},
            "iterations must be at least 1 without a warm start",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            make(**fields)


@pytest.mark.parametrize("seed", [2**32 - 1, 2**32, 2**70])
def test_a_large_seed_is_used_or_refused_by_name(tmp_path, seed):
    """Stable-baselines3 seeds generators that take 32 bits."""
    try:
        config = dataclasses.replace(BRIEF, seed=seed)
    except ValueError as error:
        assert "seed must be an integer in" in str(error)  # noqa: PT017
        return
    run(config, tmp_path / "run")


# Learning


def test_ppo_learns_to_raise_a_learning_rate_that_is_too_low(tmp_path):
    tasks = TooLow()
    config = TrainConfig(
        warm_start=WarmStart(groups=0),
        rollouts=RolloutPlan(units=2, slots=8, decisions=10),
        ppo=PPOSettings(
            iterations=10, learning_rate=5e-3, minibatch=40, epochs=6, target_kl=0.0, initial_log_std=-0.7
        ),
        evaluation=EvaluationSettings(every=10, groups=1, group_tasks=4),
    )
    policy = run(config, tmp_path / "run", tasks).policy
    units = [EvaluationUnit(seed, 6) for seed in evaluation_seeds(0, 2, purpose=1)]
    backend = InProcess(Setting(tasks, PolicyInterface()))
    learned, default = (join_outcomes(backend.run(units, each)) for each in (policy.tensors, {}))
    assert learned.scores.mean() < default.scores.mean() - 0.2
    last = [trajectory.log_lr[5] for trajectory in learned.trajectories]
    first = [trajectory.log_lr[5] for trajectory in default.trajectories]
    assert np.mean(last) > np.mean(first) + 0.5
