"""Losses that are not finite or explode."""

import numpy as np
import pytest

from rlsched.alarm import EXPLOSION, PATIENCE, LossAlarm


def alarms(losses, alarm=None):
    alarm = alarm or LossAlarm()
    found = [alarm.check(loss) for loss in losses]
    return [(step, kind) for step, kind in enumerate(found) if kind is not None]


def test_an_explosion_is_noticed_within_a_few_steps():
    losses = [2.3] * 50 + [2.3 * 2.0**step for step in range(1, 12)]
    ((step, kind),) = alarms(losses)[:1]
    assert kind == "exploding_loss"
    assert losses[step - PATIENCE + 1] > EXPLOSION * 2.3 >= losses[step - PATIENCE]


@pytest.mark.parametrize("first", [2.3, 0.01])
def test_a_converged_loss_that_comes_back_has_exploded(first):
    falling = list(np.geomspace(first, first / 100, 300))
    assert alarms([*falling, *[first] * PATIENCE]) == [], "the first loss is no more than 4 times a quarter of it"
    assert alarms([*falling, *[2 * first] * PATIENCE]) == [(299 + PATIENCE, "exploding_loss")]


def test_hard_batches_are_no_explosion():
    rng = np.random.default_rng(0)
    heavy = np.exp(0.8 * rng.standard_normal(20_000))
    assert alarms(heavy) == [], "log-normal losses, one in a hundred of which is six times the median"


def test_a_single_loss_may_be_certain():
    assert alarms([1.0] * 20 + [90.0, 1.0, 110.0, 1.0]) == [(22, "exploding_loss")]


def test_a_loss_that_stays_high_is_the_new_usual():
    assert len(alarms([1.0] * 20 + [100.0] * 1000)) == 1
    assert len(alarms([1.0] * 20 + [100.0] * 1000 + [10_000.0] * 50)) == 2


def test_losses_that_are_not_finite_are_reported_once_in_a_row():
    bad = [1.0, np.nan, np.inf, 1.0, np.inf, np.nan, None, np.nan, 1.0]
    assert alarms(bad) == [(1, "non_finite_loss"), (4, "non_finite_loss")]


def test_without_losses_or_with_negative_ones_there_is_no_alarm():
    assert alarms([None] * 50 + [1.0]) == []
    assert alarms([-1.0] * 50 + [-100.0] * 50 + [100.0] * 50) == []


def test_an_alarm_continues_from_its_state():
    losses = [1.0] * 10 + [50.0] * 5 + [np.nan, 60.0, 1.0]
    whole = alarms(losses)
    for cut in range(len(losses)):
        first, second = LossAlarm(), LossAlarm()
        before = alarms(losses[:cut], first)
        second.load_state_dict(first.state_dict())
        assert before + [(cut + step, kind) for step, kind in alarms(losses[cut:], second)] == whole
