"""Curricula that follow the run, as targets to imitate."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlsched import Linear
from rlsched._check import ArgumentError
from rlsched.action import ActionSpec
from rlsched.agents import EvaluationSettings, PPOSettings, TrainConfig, WarmStart, train
from rlsched.agents.imitation import LessonUnit, SearchUnit, TunedGroup
from rlsched.agents.imitation.followed import POINTS, available, follow, parse
from rlsched.agents.imitation.lesson import _Teacher
from rlsched.agents.imitation.search import SHARPNESS, draw_group
from rlsched.agents.ppo import RolloutPlan
from rlsched.contract import Window
from rlsched.controllers.curriculum import DUMP, SEC, curricula
from rlsched.envs.torch_run import TorchRun
from rlsched.observation import RUN_FEATURES, bounds
from tests.families import TINY, Gentle, exploring
from tests.imitations import setting, softmax
from tests.policies import random_policy

GENTLE = Gentle()


def steered(seed: int, count: int, decisions: int = 10) -> tuple[list[Any], list[int]]:
    configs, seeds = draw_group(GENTLE, seed, count)
    configs = [dataclasses.replace(config, curriculum=True) for config in configs]
    return [GENTLE.build(config).with_decisions(decisions) for config in configs], seeds


@pytest.mark.parametrize(("name", "make"), [("DUMP", DUMP), ("SEC", SEC)])
def test_what_a_curriculum_did_is_what_an_eager_run_shows(name: str, make: Callable[..., Any]):
    tasks, seeds = steered(6, 2)
    losses, logits = follow(setting(GENTLE), tasks, seeds, name)
    assert logits.shape == (2, POINTS, 4)
    moved = []
    for row, (task, seed) in enumerate(zip(tasks, seeds, strict=True)):
        run = TorchRun(task)
        run.reset(seed)
        controller, weights = make(controller=Linear()), np.full((POINTS, 4), np.nan)
        state, window = controller.init(run.spec), Window.opening(run.spec)
        while window.steps_ahead[0] > 0:
            state, decision = controller.decide(state, window)
            weights[np.arange(POINTS) / POINTS >= window.progress[0]] = decision.bucket_weights[0]
            window = run.advance(int(window.steps_ahead[0]), decision.lr_scale[0], decision.bucket_weights[0])
        assert losses[row] == pytest.approx(run.validation_loss(), rel=1e-4)
        np.testing.assert_allclose(softmax(np.log(run.spec.bucket_shares) + logits[row]), weights, atol=2e-4)
        moved.append(np.ptp(weights, axis=0).max())
    assert max(moved) > 2e-3, "it follows the run"
    np.testing.assert_allclose(logits.sum(axis=2), 0.0, atol=1e-9)


def test_a_curriculum_that_does_not_fit_the_buckets_is_never_the_best():
    tasks, seeds = steered(6, 2)
    unordered = dataclasses.replace(
        tasks[1].buckets, difficulty=np.full_like(np.asarray(tasks[1].buckets.difficulty), 0.5)
    )
    tasks[1] = dataclasses.replace(tasks[1], buckets=unordered)
    losses, logits = follow(setting(GENTLE), tasks, seeds, "Pacing")
    assert np.isfinite(losses).tolist() == [True, False]
    assert np.ptp(logits[0]) > 0
    assert not logits[1].any()


def test_the_search_tries_them_beside_the_fixed_ones():
    names = ("DUMP", "CurES")
    alone = SearchUnit(6, 3).run(setting(GENTLE), {})
    found = SearchUnit(6, 3, followed=names).run(setting(GENTLE), {})
    fixed = len(curricula(4))
    np.testing.assert_array_equal(found.log_lr, alone.log_lr)
    assert found.curricula.shape == (3, fixed + 2)
    np.testing.assert_allclose(found.curricula.sum(axis=1), 1.0)
    assert alone.followed.shape == (3, 0, POINTS, 4)
    assert found.followed.shape == (3, 2, POINTS, 4)
    configs, seeds = draw_group(GENTLE, 6, 3)
    rows = [row for row, config in enumerate(configs) if config.curriculum]
    assert rows
    for row in rows:
        # The odds among the fixed ones are what they were; the others' follow from their final losses.
        ours, theirs = found.curricula[row, :fixed], alone.curricula[row]
        np.testing.assert_allclose(ours / ours.sum(), theirs, rtol=1e-6)
        task = GENTLE.build(configs[row]).with_decisions(20).with_base_lr(10.0 ** found.log_lr[row])
        dump = np.log(follow(setting(GENTLE), [task], [seeds[row]], "DUMP")[0][0])
        cures = np.log(follow(setting(GENTLE), [task], [seeds[row]], "CurES")[0][0])
        odds = found.curricula[row, fixed] / found.curricula[row, fixed + 1]
        assert np.log(odds) == pytest.approx((cures - dump) / SHARPNESS, abs=0.05)


def test_the_teacher_does_what_they_did():
    rng = np.random.default_rng(0)
    likely = softmax(rng.standard_normal(19))
    followed = rng.standard_normal((1, 2, POINTS, 4))
    group = TunedGroup(2, np.full(1, -2.0), np.zeros((1, 9)), likely[None], followed)
    teacher = _Teacher(group, 3, [TINY.sample(rng)] * 3, ActionSpec())
    seen = np.zeros((3, len(bounds(4)[0])), dtype=np.float32)
    column = [feature.name for feature in RUN_FEATURES].index("progress")
    seen[:, column] = [0.0, 0.15, 1.0]
    for row, (progress, point) in enumerate(((0.0, 0), (0.15, 3), (1.0, POINTS - 1))):
        logits = sum(p * each.logits(np.array(progress)) for p, each in zip(likely, curricula(4), strict=False))
        logits = logits + likely[17:] @ followed[0, :, point]
        np.testing.assert_allclose(teacher.act(seen)[row, 1:], np.clip(logits / 4.0, -1, 1), atol=1e-6)


def test_lessons_are_taught_by_them():
    group = SearchUnit(6, 3, followed=("DUMP",)).run(setting(GENTLE), {})
    only = np.zeros_like(group.curricula)
    only[:, -1] = 1.0
    group = dataclasses.replace(group, curricula=only)
    weights = exploring(random_policy(0).tensors, -40.0)
    lesson = LessonUnit(4, group, copies=1, taught=1.0).run(setting(GENTLE), weights)
    steered = [config.curriculum for config in draw_group(GENTLE, 6, 3)[0]]
    targets = lesson.targets.reshape(-1, 3, lesson.targets.shape[1])[:, steered, 1:]
    assert targets.any()
    np.testing.assert_allclose(targets.sum(axis=2), 0.0, atol=1e-5)


def test_names_are_classes_that_stand_alone():
    names = available()
    assert {"CurES", "DUMP", "SEC", "PCL", "ADO", "ODM", "Pacing"} <= set(names)
    assert "FixedCurriculum" not in names
    assert parse("") == ()
    assert parse(" CurES, PCL ") == ("CurES", "PCL")
    for text, words in {"cures": "one of.*CurES", "CurES,CurES": "once", "FixedCurriculum": "one of"}.items():
        with pytest.raises(ArgumentError, match=words):
            WarmStart(followed=text)
    with pytest.raises(TypeError, match="string, got tuple"):
        WarmStart(followed=("CurES",))  # type: ignore[arg-type]


def test_a_training_resumes_between_search_and_lesson(tmp_path):
    config = TrainConfig(
        warm_start=WarmStart(groups=1, group_tasks=2, rounds=1, followed="DUMP"),
        rollouts=RolloutPlan(units=1, slots=2, decisions=10, repeats=2),
        ppo=PPOSettings(iterations=0, minibatch=20),
        evaluation=EvaluationSettings(groups=1, group_tasks=2),
    )
    whole = train(config, tmp_path / "whole", tasks=TINY)

    class Stop(Exception):
        pass

    def stop(*args: Any, **kwargs: Any) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlsched.agents.imitation.lesson.LessonUnit.run", stop)
        with pytest.raises(Stop):
            train(config, tmp_path / "cut", tasks=TINY)
    again = train(config, tmp_path / "cut", tasks=TINY, resume=True)
    for name, tensor in whole.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor)
