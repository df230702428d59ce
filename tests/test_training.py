"""Training: reproducible to the bit, and what it leaves behind."""

import dataclasses
import importlib.metadata
import json
import math
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils import seeding

import rlsched
from rlsched.action import ActionSpec
from rlsched.agents import (
    EvaluationSettings,
    PPOSettings,
    RolloutPlan,
    TaskSettings,
    TrainConfig,
    WarmStart,
    train,
)
from rlsched.agents.evaluation import BaselineUnit, EvaluationUnit, evaluation_seeds, join_outcomes
from rlsched.agents.imitation import LessonUnit, SearchUnit
from rlsched.agents.rollouts import InProcess, Job, RolloutUnit, Setting, Weights
from rlsched.envs.tasks import Task, TaskConfig
from rlsched.policy import PolicyInterface
from tests.families import TINY, Recorded, TooLow
from tests.trainings import AHEAD, BRIEF, SMALL, check_same_end, run, weights


def test_training_is_reproducible_bit_for_bit(whole, tmp_path):
    np.random.seed(7)  # noqa: NPY002 - what was drawn before plays no part
    torch.manual_seed(7)
    check_same_end(run(SMALL, tmp_path / "again"), whole)
    one, other = (run(dataclasses.replace(BRIEF, seed=seed), tmp_path / str(seed)) for seed in (1, 2))
    assert weights(one.policy) != weights(other.policy)


def test_units_ahead_are_another_training_and_reproducible_too(whole, whole_ahead, tmp_path):
    check_same_end(run(AHEAD, tmp_path / "again"), whole_ahead)
    name = "mlp_extractor.actor.members.0.lr_head.weight"
    last = [each.checkpoint["policy"][name] for each in (whole, whole_ahead)]
    assert not torch.equal(*last)


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
