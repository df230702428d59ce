"""Estimates and figures of the evaluation, against what they ought to be."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm, trim_mean

from rlsched.envs.tasks import Digits
from rlsched.experiments.evaluation import BEST_CURRICULUM, BEST_TUNED, Run, best_default
from rlsched.experiments.evaluation.comparators import FACTORS, SCHEDULES
from rlsched.experiments.evaluation.figures import rows, speed_ups, subsets
from rlsched.experiments.evaluation.methods import log_ratios, methods
from rlsched.experiments.evaluation.statistics import interquartile_mean, mean_over_tasks, trimmed_mean

# Statistics.


def test_the_middle_half_ignores_what_is_far_out():
    values = np.array([[-100.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [1000.0]])
    assert interquartile_mean(values, np.zeros(8), np.arange(8)).value == trim_mean(values, 0.25)[0] == 3.5
    assert mean_over_tasks(values, np.zeros(8), np.arange(8)).value == values.mean()


def test_weights_are_as_good_as_repeats():
    rng = np.random.default_rng(0)
    values, counts = rng.standard_normal(20), rng.integers(4, size=20)
    repeated = np.repeat(values, counts)
    for trim in (0.0, 0.1, 0.25):
        expected = trimmed_mean(repeated, np.ones(len(repeated)), trim)
        assert trimmed_mean(values, counts.astype(float), trim) == pytest.approx(expected)


def test_the_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).standard_normal((400, 1))
    found = mean_over_tasks(values, np.zeros(400), np.arange(400))
    half = norm.ppf(0.975) * values.std() / 20.0
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_differences_between_strata_are_no_uncertainty():
    strata = np.repeat([0, 1], 50)
    values = (10.0 * strata + 0.1 * np.random.default_rng(0).standard_normal(100))[:, None]
    stratified, pooled = (mean_over_tasks(values, each, np.arange(100)) for each in (strata, np.zeros(100)))
    assert stratified.high - stratified.low < 0.06
    assert pooled.high - pooled.low > 1.0


def test_seeds_are_part_of_the_uncertainty():
    noisy = np.array([[-1.0, 1.0]] * 25)
    found = mean_over_tasks(noisy, np.zeros(25), np.arange(25))
    # Each task's mean of two draws of -1 or 1 has variance 1/2.
    assert found.high == pytest.approx(norm.ppf(0.975) * np.sqrt(0.5 / 25), rel=0.15)


def test_tasks_of_a_group_are_no_independent_evidence():
    rng = np.random.default_rng(0)
    by_group = rng.standard_normal(100)
    values = np.repeat(by_group, 4)[:, None]
    found = mean_over_tasks(values, np.zeros(400), np.repeat(np.arange(100), 4))
    half = norm.ppf(0.975) * by_group.std() / 10.0
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    apart = mean_over_tasks(values, np.zeros(400), np.arange(400))
    assert apart.high - apart.low == pytest.approx(half, rel=0.1), "half as wide"


# Figures. Two tasks of ten steps, two report seeds.


def make_run(task, method, role, seed, factor, validation, test, curve=(), steps=()):
    return Run(task, method, factor, role, seed, validation, test, 10, 0.5, list(steps), list(curve))


def made(scores):
    """Runs of all schedules: `scores[name]` is (validation of the tuning, test of the reports) for each task."""
    runs = []
    for name in SCHEDULES:
        for task, (tuned, test) in enumerate(scores.get(name, [(0.0, 0.0)] * 2)):
            runs += [make_run(task, name, "tuning", 0, f, tuned + abs(np.log10(f)), test) for f in FACTORS]
            runs += [make_run(task, name, "report", s, 1.0, -1.0, test, [-0.5, -1.0], [5, 10]) for s in range(2)]
    return runs


SCORES = {"linear": [(-1.0, -1.0), (-1.0, -2.0)], "cosine": [(-0.5, -9.0), (-2.0, -1.5)]}
KINDS = dict.fromkeys(SCHEDULES, "schedule")


def test_the_best_tuned_is_chosen_by_its_tuning_and_reported_from_other_seeds():
    found = methods(made(SCORES), KINDS, 2)
    # Cosine's wonderful report on the first task does not count: its tuning was worse.
    np.testing.assert_array_equal(found[BEST_TUNED].test, [[-1.0, -1.0], [-1.5, -1.5]])
    assert found[BEST_TUNED].runs == 7 * 6 + 1
    assert found["linear"].runs == 8
    np.testing.assert_allclose(log_ratios(found["linear"], found[BEST_TUNED]).mean(axis=1), [0.0, -0.5])


def test_the_best_default_is_one_for_all_tasks():
    # The mean validation loss of cosine is -1.25, of linear -1; how they were reported does not count.
    assert best_default(made(SCORES)) == ("cosine", 1.0)


def test_curricula_compete_with_the_natural_mixture():
    runs = made(SCORES)
    for task, tuned in enumerate((-3.0, -0.5)):
        runs += [make_run(task, "linear, x", "tuning", 0, f, tuned, 0.0) for f in FACTORS]
        runs += [make_run(task, "linear, x", "report", s, 1.0, -1.0, -4.0, [-1.0], [10]) for s in range(2)]
    found = methods(runs, KINDS | {"linear, x": "curriculum"}, 2)
    np.testing.assert_array_equal(found[BEST_CURRICULUM].test, [[-4.0, -4.0], [-2.0, -2.0]])
    assert found[BEST_CURRICULUM].runs == 7 * 2 + 1


def test_a_speed_up_is_steps_of_tuned_linear_decay_over_steps_to_its_loss():
    runs = made(SCORES)
    curves = {0: [-0.9, -1.1, -1.3], 1: [-0.1, -0.2, -0.3]}
    for task, curve in curves.items():
        runs += [make_run(task, "mine", "report", s, 1.0, curve[-1], 0.0, curve, [2, 4, 10]) for s in range(2)]
    found = methods(runs, KINDS | {"mine": "policy"}, 2)
    np.testing.assert_array_equal(
        speed_ups(found["mine"], found["linear"], np.arange(2)), [[2.5, 2.5], [0.0, 0.0]]
    )
    rng = np.random.default_rng(0)
    row = next(r for r in table_of(runs, found, [Digits().sample(rng) for _ in range(2)]) if r.method == "mine")
    assert row.speed_up == 1.25
    assert row.reached == 0.5
    # By trapezoids over ten steps: the policy's curves against one from 0 to -0.5 at 5 and -1 at 10.
    mine = [(-0.9 - 2.0 - 7.2) / 10, (-0.1 - 0.3 - 1.5) / 10]
    assert row.area == pytest.approx(np.mean(mine) - (-1.25 - 3.75) / 10)


def table_of(runs, found, configs):
    return [
        row
        for row in rows(found, runs, configs, ["digits"] * len(configs), range(len(configs)))
        if row.tasks == "all"
    ]


def test_wins_are_by_more_than_a_percent():
    runs = made({})
    for task, test in enumerate((-0.005, -0.02)):
        runs += [make_run(task, "mine", "report", s, 1.0, 0.0, test, [0.0], [10]) for s in range(2)]
    found = methods(runs, KINDS | {"mine": "policy"}, 2)
    rng = np.random.default_rng(0)
    row = next(r for r in table_of(runs, found, [Digits().sample(rng) for _ in range(2)]) if r.method == "mine")
    assert (row.win, row.tie) == (0.5, 0.5)
    assert row.worst == -0.005
    assert row.log_ratio.value == pytest.approx(-0.0125)
    assert (row.runs, row.steps, row.seconds) == (1, 10.0, 0.5)


def test_every_run_of_a_method_is_counted():
    runs = made({})
    row = next(r for r in table_of(runs, methods(runs, KINDS, 2), [Digits().sample(np.random.default_rng(0))] * 2)
               if r.method == "linear")  # fmt: skip
    assert row.steps == 80.0, "seven runs to tune and one to report, ten steps each"
    best = next(r for r in table_of(runs, methods(runs, KINDS, 2), [Digits().sample(np.random.default_rng(0))] * 2)
                if r.method == BEST_TUNED)  # fmt: skip
    assert best.steps == pytest.approx(6 * 70 + 10), "the tuning of all, and one run"
    assert best.at_edge == 0.0


def test_a_way_to_a_loss_that_was_never_reached_is_not_compared():
    runs = [dataclasses.replace(run, validation=0.1) if run.role == "report" else run for run in made({})]
    runs += [
        make_run(task, "mine", "report", s, 1.0, 5.0, 5.0, [-0.2, 5.0], [1, 2])
        for task in range(2)
        for s in range(2)
    ]
    found = methods(runs, KINDS | {"mine": "policy"}, 2)
    assert np.isnan(speed_ups(found["mine"], found["linear"], np.arange(2))).all()
    rng = np.random.default_rng(0)
    row = next(r for r in table_of(runs, found, [Digits().sample(rng) for _ in range(2)]) if r.method == "mine")
    assert row.speed_up is row.reached is row.at_edge is None
    # A run that failed after two steps of ten stays at 5: by trapezoids, less the area of linear decay.
    mine = (-0.1 + 2.4 + 40.0) / 10
    assert row.area == pytest.approx(mine - (-1.25 - 3.75) / 10)


def test_noisy_and_mixed_tasks_are_told_from_clean_ones():
    config = Digits().sample(np.random.default_rng(0))
    plain = dataclasses.replace(config, label_noise=0.0, domain_skew=0.0, bucket_by="difficulty")
    configs = [plain, dataclasses.replace(plain, label_noise=0.2), dataclasses.replace(plain, domain_skew=1.0)]
    found = subsets(configs, ["digits"] * 3)
    np.testing.assert_array_equal(found["noisy or mixed"], [1, 2])
    np.testing.assert_array_equal(found["clean"], [0])
    assert "digits" not in found, "of one family, it is all tasks"
    assert set(subsets(configs, ["a", "b", "b"])) >= {"a", "b"}
