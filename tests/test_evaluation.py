"""Evaluation: what a policy and the baselines are scored by is what runs one by one give."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest

from rlsched import Constant, Cosine, Linear, Policy, PolicyController
from rlsched.agents.evaluation import (
    Baselines,
    BaselineUnit,
    EvaluationUnit,
    evaluation_seeds,
    join_outcomes,
)
from rlsched.agents.evaluation.baselines import FACTORS, SCHEDULES
from rlsched.agents.evaluation.outcome import draw_tasks
from rlsched.agents.rollouts import InProcess, Job, Setting
from rlsched.contract import Array, Window
from rlsched.envs import TrainingScheduleEnv
from rlsched.envs.tasks import Digits, DigitsConfig, Natural, TaskFamily
from rlsched.envs.torch_run import TorchRun
from rlsched.policy import PolicyInterface
from tests.families import TINY, Explosive, Gentle, exploring
from tests.policies import random_policy


def setting(tasks: TaskFamily) -> Setting:
    return Setting(tasks, PolicyInterface())


def bold_policy() -> Policy:
    """Random, but raises learning rates more often than it lowers them."""
    policy = random_policy(1)
    return Policy({**policy.tensors, "lr_head.bias": np.array([0.3], dtype=np.float32)}, policy.metadata)


def by_the_environment(tasks: TaskFamily, seed: int, count: int, policy=None):
    """Scores, learning rates and bucket weights of the tasks of a unit, by the single environment."""
    built, _, seeds = draw_tasks(setting(tasks), seed, count)
    scores: list[float] = []
    rates: list[list[float]] = []
    weights: list[list[Array]] = []
    for task, run_seed in zip(built, seeds, strict=True):
        alone = TorchRun(task)
        alone.reset(run_seed)
        env, over = TrainingScheduleEnv(tasks), False
        seen, info = env.reset(options={"task": task.config, "run_seed": run_seed})
        rates.append([])
        weights.append([])
        while not over:
            action = np.zeros(5) if policy is None else policy.act(seen[None])[0]
            seen, _, over, _, info = env.step(action)
            rates[-1].append(np.log10(info["lr_scale"] * task.config.base_lr))
            weights[-1].append(info["bucket_weights"])
        diverged = info["step"] < task.config.num_steps or not np.isfinite(info["validation_loss"])
        score = 5.0 if diverged else np.log(info["validation_loss"] / alone.validation_loss())
        scores.append(np.clip(score, -7.0, 5.0))
    return scores, rates, weights


@pytest.mark.parametrize("policy", [None, bold_policy()], ids=["default", "policy"])
@pytest.mark.parametrize("tasks", [Gentle(), Natural(Gentle())], ids=["with buckets", "without"])
def test_a_policy_is_scored_by_what_the_single_environment_gives(tasks, policy):
    weights = {} if policy is None else exploring(policy.tensors)
    outcome = EvaluationUnit(3, 3).run(setting(tasks), weights)
    scores, rates, chosen = by_the_environment(tasks, 3, 3, policy)
    np.testing.assert_allclose(outcome.scores, scores, atol=5e-3)
    assert np.ptp(scores) > 0.01
    for row, trajectory in enumerate(outcome.trajectories):
        np.testing.assert_allclose(trajectory.log_lr, rates[row], atol=5e-3)
        np.testing.assert_allclose(trajectory.weights, chosen[row], atol=5e-3)
        assert len(trajectory.progress) == len(rates[row]) == outcome.configs[row].num_decisions
        assert (np.diff(trajectory.progress) > 0).all()
    assert [config.data_seed for config in outcome.configs] == [
        task.config.data_seed for task in draw_tasks(setting(tasks), 3, 3)[0]
    ]


def test_without_a_policy_it_is_linear_decay_after_the_warmup():
    outcome = EvaluationUnit(3, 3).run(setting(TINY), {})
    for config, trajectory in zip(outcome.configs, outcome.trajectories, strict=True):
        # The warm-up is over after three windows, the first of which is the opening.
        scale = 10.0**trajectory.log_lr / config.base_lr
        np.testing.assert_allclose(scale[2:], 1.0 - trajectory.progress[2:], rtol=1e-5)
        warmup = 10.0 ** (-0.7 * np.array([2, 1])) * (1.0 - trajectory.progress[:2])
        np.testing.assert_allclose(scale[:2], warmup, rtol=1e-5)
        shares = TINY.build(config).buckets.shares
        np.testing.assert_allclose(trajectory.weights, np.broadcast_to(shares, trajectory.weights.shape))


def test_zero_actions_and_no_weights_are_the_same_policy():
    zero = {name: 0.0 * value for name, value in random_policy(0).tensors.items() if "normalizer" not in name}
    weights = exploring({**random_policy(0).tensors, **zero})
    one, other = (EvaluationUnit(3, 3).run(setting(TINY), each) for each in ({}, weights))
    np.testing.assert_array_equal(one.scores, other.scores)


def test_a_run_that_diverges_scores_the_ceiling_and_leaves_the_others_alone():
    outcome = EvaluationUnit(3, 6).run(setting(Explosive()), {})
    diverged = np.array([config.base_lr > 1.0 for config in outcome.configs])
    assert 0 < diverged.sum() < 6
    np.testing.assert_array_equal(outcome.scores == 5.0, diverged)
    assert (outcome.scores[~diverged] < 0.5).all()
    for over, trajectory in zip(diverged, outcome.trajectories, strict=True):
        assert (len(trajectory.progress) < 4) == over
    expected, _, _ = by_the_environment(Explosive(), 3, 6)
    np.testing.assert_allclose(outcome.scores, expected, atol=5e-3)


def test_evaluation_is_without_exploration_and_depends_on_nothing_but_itself():
    units: list[Job] = [EvaluationUnit(3, 3), BaselineUnit(3, 3), EvaluationUnit(5, 2)]
    weights = exploring(random_policy(0).tensors, 2.0)
    one = InProcess(setting(TINY)).run(units, weights)
    other = InProcess(setting(TINY)).run(units[::-1], exploring(random_policy(0).tensors, -2.0))[::-1]
    np.testing.assert_array_equal(one[0].scores, other[0].scores)
    np.testing.assert_array_equal(one[1].grid, other[1].grid)
    np.testing.assert_array_equal(one[1].tuned_linear, other[1].tuned_linear)
    np.testing.assert_array_equal(one[2].scores, other[2].scores)


def test_joined_outcomes_keep_their_order():
    parts = [EvaluationUnit(seed, count).run(setting(TINY), {}) for seed, count in ((3, 2), (5, 3))]
    joined = join_outcomes(parts)
    np.testing.assert_array_equal(joined.scores, np.concatenate([part.scores for part in parts]))
    assert list(joined.configs) == [config for part in parts for config in part.configs]
    assert list(joined.trajectories) == [each for part in parts for each in part.trajectories]


# Baselines


@dataclass(frozen=True)
class Mild(Digits):
    """Tasks whose sensible learning rate is low, so that little is chaotic."""

    def sample(self, rng: np.random.Generator) -> DigitsConfig:
        return dataclasses.replace(super().sample(rng), optimizer="sgd", depth=1)

    def sensible_lr(self, config) -> float:
        return 3e-3


def score_of(task, seed, schedule, lr) -> float:
    """ln(final / initial validation loss) at learning rate `lr`, by the eager loop."""
    run = TorchRun(task)
    run.reset(seed)
    first, window, state = run.validation_loss(), Window.opening(run.spec), schedule.init(run.spec)
    while int(window.step[0]) < task.config.num_steps:
        state, decision = schedule.decide(state, window)
        scale = decision.lr_scale[0] * lr / task.config.base_lr
        window = run.advance(int(window.steps_ahead[0]), scale, task.buckets.shares)
        if window.nonfinite[0]:
            return 5.0
    return float(np.clip(np.log(run.validation_loss() / first), -7.0, 5.0))


def test_baselines_are_runs_one_by_one():
    tasks = Mild(min_steps=14, max_steps=16, max_batch=16)
    found = BaselineUnit(3, 2).run(setting(tasks), {})
    built, tuning, counting = draw_tasks(setting(tasks), 3, 2)
    assert list(SCHEDULES.values()) == [Linear(), Cosine(), Constant()]
    np.testing.assert_allclose(np.log10(FACTORS), np.linspace(-1.5, 1.5, 7))
    for row, task in enumerate(built):
        for column, schedule in enumerate(SCHEDULES.values()):
            expected = [score_of(task, tuning[row], schedule, 3e-3 * factor) for factor in FACTORS]
            np.testing.assert_allclose(found.grid[row, column], expected, atol=1e-2)
            assert np.ptp(expected) > 0.01
        best = FACTORS[found.grid[row, 0].argmin()]
        expected_score = score_of(task, counting[row], Linear(), 3e-3 * best)
        assert found.tuned_linear[row] == pytest.approx(expected_score, abs=1e-2)


def test_a_policy_and_the_baselines_are_judged_on_the_same_runs():
    """A policy that does what tuned linear decay does has its score."""
    tasks = Mild(min_steps=14, max_steps=16, max_batch=16)
    configs = EvaluationUnit(3, 3).run(setting(tasks), {}).configs
    built, tuning, counting = draw_tasks(setting(tasks), 3, 3)
    assert list(configs) == [task.config for task in built]
    assert not set(tuning) & set(counting)
    controller = PolicyController(random_policy(0))
    scores = EvaluationUnit(3, 3).run(setting(tasks), exploring(random_policy(0).tensors)).scores
    for task, seed, score in zip(built, counting, scores, strict=True):
        if not task.config.feedback:
            run = TorchRun(task)
            run.reset(seed)
            first, window, state = run.validation_loss(), Window.opening(run.spec), controller.init(run.spec)
            while int(window.step[0]) < task.config.num_steps:
                state, decision = controller.decide(state, window)
                window = run.advance(int(window.steps_ahead[0]), decision.lr_scale[0], decision.bucket_weights[0])
            assert score == pytest.approx(np.log(run.validation_loss() / first), abs=5e-3)


def test_the_best_default_is_the_one_pair_with_the_lowest_mean():
    rng = np.random.default_rng(0)
    grid = rng.standard_normal((5, 3, 7))
    pairs = [(name, factor) for name in SCHEDULES for factor in FACTORS]
    means = dict(zip(pairs, grid.mean(axis=0).ravel().tolist(), strict=True))
    best = min(means, key=lambda pair: means[pair])
    baselines = Baselines(grid, np.zeros(5))
    assert baselines.best_default == best
    assert baselines.default.shape == (5,)
    assert baselines.default.mean() == pytest.approx(means[best])
    # No task's own best: one default for all.
    assert baselines.default.mean() > grid.min(axis=(1, 2)).mean()
    joined = Baselines.join([Baselines(grid[:2], np.arange(2.0)), Baselines(grid[2:], np.arange(2.0, 5.0))])
    np.testing.assert_array_equal(joined.grid, grid)
    np.testing.assert_array_equal(joined.tuned_linear, np.arange(5.0))


def test_evaluation_seeds_are_odd_and_those_that_report_do_not_select():
    selecting, reporting = evaluation_seeds(0, 500), evaluation_seeds(0, 500, purpose=1)
    assert all(seed % 2 for seed in selecting + reporting)
    assert len(set(selecting + reporting)) == 1000
    assert evaluation_seeds(0, 3) == selecting[:3], "more tasks are more of the same"
    assert not set(selecting) & set(evaluation_seeds(1, 500))
