"""WSD-S: results at several budgets from one run."""

import numpy as np
import pytest

from rlsched import WSD, Linear
from rlsched.envs.drivers.plain import train
from rlsched.envs.drivers.wsd_s import WSDS, Legs, StableDecay
from tests.small_runs import same, small


@pytest.mark.parametrize("bucket_by", ["difficulty", "online"])
def test_with_one_budget_it_is_wsd_bit_for_bit(bucket_by):
    found = WSDS((1.0,), WSD(0.3)).run(small(bucket_by=bucket_by), 5)
    assert same(found, train(small(bucket_by=bucket_by), WSD(0.3), 5))


def test_the_result_at_the_first_budget_is_that_of_a_run_of_this_length():
    driver = WSDS((0.25, 0.5, 1.0), WSD(0.4))
    found = driver.run(small(), 1)
    alone = train(small(num_steps=15, num_decisions=6), WSD(0.4), 1)
    results = driver.results(found, 60)
    assert results[0] == alone.validation[-1]
    assert results[-1] == found.validation[-1]
    assert {15, 30, 60} <= set(found.steps.tolist())
    assert found.spent == 60


def test_later_budgets_go_on_from_the_decayed_checkpoint_at_the_full_rate():
    found = WSDS((0.5, 1.0), Linear()).run(small(), 1)
    first = found.lr[found.steps > 30][0]
    assert first == 0.01 > found.lr[found.steps <= 30][-1]
    # It has learned in its first leg: it begins the second where that ended.
    assert found.validation[found.steps > 30].max() < found.validation[0]


def test_the_decay_of_the_reciprocal_is_a_line():
    progress = np.linspace(0.9, 1.0, 11)
    reciprocal = 1.0 / StableDecay(0.1, floor=0.2).profile(progress)
    np.testing.assert_allclose(reciprocal, 1.0 + 4.0 * np.linspace(0, 1, 11))


def test_each_leg_runs_through_the_schedule():
    progress = np.arange(60) / 60
    legs = Legs((0.25, 0.5, 1.0), WSD(0.2)).profile(progress)
    np.testing.assert_allclose(legs[:15], WSD(0.2).profile(np.arange(15) / 15))
    np.testing.assert_allclose(legs[15:30], legs[:15])
    np.testing.assert_allclose(legs[30:], WSD(0.2).profile(np.arange(30) / 30))


def test_seeds_decide_everything():
    assert same(WSDS().run(small(), 1), WSDS().run(small(), 1))
    assert not same(WSDS().run(small(), 1), WSDS().run(small(), 2))


def test_budgets_after_a_failure_have_no_result():
    driver = WSDS((0.05, 1.0))
    found = driver.run(small(optimizer="sgd", base_lr=1e38), 0)
    assert np.isinf(driver.results(found, 60)[-1])
    assert found.test == np.inf
    assert found.spent < 60


@pytest.mark.parametrize("budgets", [(), (0.5,), (0.5, 0.5, 1.0), (0.0, 1.0), (0.5, 1.5)])
def test_bad_budgets_are_refused(budgets):
    with pytest.raises(ValueError, match="budgets must be"):
        WSDS(budgets)


def test_budgets_too_close_for_a_step_are_refused():
    with pytest.raises(ValueError, match="budgets must lie at least a step apart"):
        WSDS((0.5, 0.501, 1.0)).run(small(), 0)


def test_a_schedule_must_be_one():
    with pytest.raises(TypeError, match="schedule must be an open-loop schedule, got the class WSD"):
        WSDS(schedule=WSD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cooldown must be a finite number in"):
        StableDecay(0.0)
    with pytest.raises(ValueError, match="floor must be a finite number in"):
        StableDecay(0.1, floor=0.0)
