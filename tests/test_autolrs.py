"""AutoLRS, and the forecasts that it rests on."""

import numpy as np
import pytest

from rlsched import Constant
from rlsched.envs.drivers.autolrs import AutoLRS, propose
from rlsched.envs.drivers.forecast import exponential_forecast
from rlsched.envs.drivers.plain import train
from rlsched.envs.tasks import Quadratics, QuadraticsConfig
from tests.small_runs import counted, same, small

QUICK = AutoLRS(stages=3, candidates=4)


@pytest.mark.parametrize(("amplitude", "rate"), [(2.0, 0.3), (0.5, 0.02), (-1.0, 0.1)])
def test_exponentials_are_forecast_exactly(amplitude, rate):
    steps = np.array([0.0, 1.0, 2.0, 4.0, 7.0, 10.0])
    losses = amplitude * np.exp(-rate * steps) + 1.0
    expected = amplitude * np.exp(-rate * 80.0) + 1.0
    assert exponential_forecast(steps, losses, at=80.0) == pytest.approx(expected, rel=1e-4)


def test_a_forecast_is_the_least_squares_fit_of_a_general_optimizer():
    from scipy.optimize import curve_fit

    steps, rng = np.arange(40.0), np.random.default_rng(0)
    losses = 1.5 * np.exp(-0.08 * steps) + 0.5 + 0.01 * rng.uniform(-1, 1, 40)
    (a, r, c), _ = curve_fit(lambda t, a, r, c: a * np.exp(-r * t) + c, steps, losses, p0=(1.0, 0.1, 0.0))
    assert exponential_forecast(steps, losses, at=200.0) == pytest.approx(a * np.exp(-r * 200) + c, abs=1e-4)


def test_outliers_do_not_move_a_forecast():
    steps, rng = np.arange(30.0), np.random.default_rng(1)
    clean = np.exp(-0.1 * steps) + 1.0 + 0.002 * rng.standard_normal(30)
    spoilt = clean.copy()
    spoilt[[4, 21]] += 3.0
    assert abs(exponential_forecast(steps, spoilt, 100.0) - exponential_forecast(steps, clean, 100.0)) < 0.01


@pytest.mark.parametrize("losses", [[2.0], [1.0, 2.0], [2.0] * 10])
def test_what_no_exponential_can_be_fitted_to_stays_as_it_is(losses):
    assert exponential_forecast(np.arange(float(len(losses))), np.array(losses), 50.0) == 2.0


def test_proposals_explore_and_exploit():
    points = np.linspace(-2, 2, 41)
    tried, values = [0, 10, 20, 30, 40], np.array([1.0, 0.2, 0.0, 0.2, 1.0])
    assert abs(propose(points, tried, values, kappa=0.0) - 20) <= 2
    # All exploration: in the middle of the widest gap.
    assert propose(points, [0, 10, 40], np.zeros(3), kappa=1e6) in range(22, 29)


def test_nothing_is_proposed_twice():
    points, tried = np.linspace(0, 1, 6), [2]
    while len(tried) < 6:
        tried.append(propose(points, tried, np.square(points[tried] - 0.4), kappa=0.1))
    assert sorted(tried) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("bucket_by", ["difficulty", "online"])
def test_with_one_candidate_it_is_the_constant_run_bit_for_bit(bucket_by):
    chosen = small(bucket_by=bucket_by)
    found = AutoLRS(stages=4, candidates=1).run(chosen, 3)
    expected = train(chosen, Constant(), 3)
    assert same(found, expected, but=("spent",))
    assert found.spent > expected.spent == 60


def test_seeds_decide_everything():
    assert same(QUICK.run(small(), 1), QUICK.run(small(), 1))
    assert not same(QUICK.run(small(), 1), QUICK.run(small(), 2))


def test_every_step_is_counted():
    watched, steps = counted(small())
    found = QUICK.run(watched, 0)
    assert found.spent == len(steps)
    # Three stages of about twenty steps, and for each four trials of at least three.
    assert found.spent == 60 + 3 * 4 * 3
    assert found.steps[-1] == 60
    watched, steps = counted(small())
    half = AutoLRS(stages=2, candidates=3, share=0.5).run(watched, 0)
    lengths = [found.steps[found.steps >= 30][0], 60 - found.steps[found.steps >= 30][0]]
    assert half.spent == len(steps) == 60 + 3 * sum(int(np.ceil(length / 2)) for length in lengths)


def test_a_stage_has_one_learning_rate():
    found = QUICK.run(small(), 0)
    starts = np.append(0, found.steps[:-1])
    for stage in range(3):
        assert len(set(found.lr[starts * 3 // 60 == stage])) == 1
    assert len(set(found.lr)) > 1


@pytest.mark.parametrize("factor", [0.02, 30.0])
def test_it_recovers_from_a_misjudged_learning_rate(factor):
    misjudged = small(base_lr=0.01 * factor)
    driver = AutoLRS(stages=3, candidates=8)
    ratios = [
        driver.run(misjudged, seed).validation[-1] / train(misjudged, Constant(), seed).validation[-1]
        for seed in range(2)
    ]
    assert max(ratios) < 0.9


def test_without_noise_and_with_equal_curvatures_it_finds_a_rate_that_reaches_the_minimum():
    """After t steps the loss is (1 - lr)^2t of the first: rates of 0.1 to 1.9 get there, the base's does not."""
    config = QuadraticsConfig(
        data_seed=0, num_steps=60, num_decisions=12, batch_size=4, base_lr=0.03, noise=0.0, curriculum=False
    )
    found = AutoLRS(stages=1, candidates=12).run(Quadratics().build(config), 0)
    assert 0.1 < found.lr[0] < 1.9
    assert found.validation[-1] < 1e-6 < 1e-3 < train(Quadratics().build(config), Constant(), 0).validation[-1]


def test_candidates_that_fail_are_not_chosen():
    """Learning rates of 2 and more diverge."""
    config = QuadraticsConfig(
        data_seed=0, num_steps=40, num_decisions=10, batch_size=4, base_lr=1e20, noise=0.1, curriculum=False
    )
    wild = Quadratics().build(config)
    found = AutoLRS(stages=2, candidates=10, span=1e6, share=1.0).run(wild.with_base_lr(1e5), 0)
    assert np.isfinite(found.test)
    assert found.lr.max() < 2.0
    watched, steps = counted(wild)
    lost = AutoLRS(stages=2, candidates=3).run(watched, 0)
    assert lost.validation[-1] == lost.test == np.inf
    # Of several that fail, the lowest is the least harm.
    assert lost.lr[0] <= 1e20
    assert lost.spent == len(steps)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages": 0}, "stages must be an integer >= 1, got 0"),
        ({"candidates": 0}, "candidates must be an integer >= 1"),
        ({"share": 0.0}, "share must be a finite number in"),
        ({"span": 0.5}, "span must be a finite number in"),
        ({"kappa": -1.0}, "kappa must be a finite number >= 0"),
    ],
)
def test_bad_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        AutoLRS(**changes)
