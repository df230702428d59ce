"""Drivers that record a run or some, and train again by what a law says of them."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from rlsched import Constant, Cosine, Linear, PolicyController, Warmup
from rlsched.envs.drivers.law_optimised import LawOptimised, loss_curve
from rlsched.envs.drivers.lr_transfer import TransferredLR, shortened
from rlsched.envs.drivers.plain import record, seeds, train
from rlsched.envs.drivers.refined import Refined
from rlsched.envs.tasks import Digits, DigitsConfig
from rlsched.laws import AnnealingLaw, ConvexBound, Refinement, TokenHorizon, lowest_point
from tests.families import Touchy
from tests.policies import random_policy
from tests.test_drive import by_hand

SMALL = DigitsConfig(
    data_seed=0, num_steps=60, num_decisions=20, batch_size=8, optimizer="sgd", base_lr=0.05, curriculum=False,
    num_examples=200, width=8,
)  # fmt: skip


WRONG: Any = "linear"


def task(**changes):
    return Digits().build(dataclasses.replace(SMALL, **changes))


def failing():
    """A task whose runs diverge unless the learning rate is lowered."""
    return Touchy().build(Touchy().sample(np.random.default_rng(0)))


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)


@pytest.mark.parametrize("controller", [Cosine(), PolicyController(random_policy(0))], ids=["cosine", "policy"])
def test_a_plain_run_is_one_stepped_by_hand(controller):
    found = record(task(), controller, 3)
    driven = found.driven
    assert driven.validation[-1] == by_hand(task(), 3, controller)
    assert len(driven.steps) == len(driven.lr) == len(driven.validation) == len(found.windows) == 21
    assert driven.steps[-1] == driven.spent == len(found.lr) == 60
    assert np.isfinite(driven.test)
    np.testing.assert_array_equal(found.lr[np.append(0, driven.steps[:-1])], driven.lr)
    assert same(driven, train(task(), controller, 3))
    assert not same(driven, train(task(), controller, 4))


def test_the_learning_rates_of_a_run_are_recorded_step_by_step():
    np.testing.assert_allclose(record(task(), Linear(), 0).lr, 0.05 * (1 - np.arange(60) / 60))


def test_telemetry_is_recorded_if_it_is_asked_for():
    assert np.isnan(record(task(), Linear(), 0).windows[5].grad_norm[0])
    assert record(task(), Linear(), 0, frozenset({"grad_norm"})).windows[5].grad_norm[0] > 0


@pytest.mark.parametrize("feedback", [False, True])
def test_validation_losses_are_reported_where_the_task_says_so(feedback):
    found = record(task(feedback=feedback), Linear(), 0)
    told = np.array([window.validation_loss[0] for window in found.windows])
    np.testing.assert_array_equal(told, found.driven.validation if feedback else np.full(21, np.nan))


def test_a_run_that_fails_ends_and_is_infinite():
    found = record(failing(), Linear(), 0)
    assert found.driven.validation[-1] == found.driven.test == np.inf
    assert found.driven.spent == found.driven.steps[-1] == len(found.lr) < 40


def test_a_seed_gives_seeds():
    assert seeds(5, 3)[0] == 5
    assert len({*seeds(5, 3), *seeds(6, 3)}) == 6
    assert all(0 <= seed < 2**63 for seed in seeds(0, 20))


@pytest.mark.parametrize(("optimizer", "power"), [("sgd", 2.0), ("adam", 1.0)])
def test_a_refined_run_is_the_parents_norms_refined(optimizer, power):
    one = task(optimizer=optimizer)
    parent = record(one, Linear(), seeds(7, 2)[1], frozenset({"grad_norm"}))
    norms = np.array([window.grad_norm[0] for window in parent.windows])
    schedule = Refinement(power).schedule(norms, parent.driven.steps, 60)
    found = Refined().run(one, 7)
    expected = train(one, schedule, 7)
    assert same(found, dataclasses.replace(expected, spent=120))
    assert same(found, Refined().run(one, 7))
    assert Refined(rounds=2).run(one, 7).spent == 180


def test_a_schedule_that_a_law_found_is_run_after_its_parents():
    one = task()
    curves = [
        loss_curve(record(one, parent, seed))
        for parent, seed in zip((Constant(), Cosine()), seeds(7, 3)[1:], strict=True)
    ]
    assert curves[0].steps[0] > 6
    found = LawOptimised(AnnealingLaw).run(one, 7)
    schedule = AnnealingLaw.fit(curves).optimise(60, 0.05)
    assert same(found, dataclasses.replace(train(one, schedule, 7), spent=180))
    assert (np.diff(found.lr) <= 1e-12).all()
    assert found.lr[0] == pytest.approx(0.05)


def test_parents_may_warm_up():
    parents = (Warmup(Constant(), 0.1), Warmup(Linear(), 0.1))
    found = LawOptimised(AnnealingLaw, parents).run(task(), 7)
    assert np.isfinite(found.validation[-1])
    assert found.lr[0] == pytest.approx(0.05)


@pytest.mark.parametrize("exponent", [None, 0.32])
def test_a_learning_rate_is_tuned_in_short_runs_and_transferred(exponent):
    one, factors = task(), (0.1, 1.0, 10.0)
    driver = TransferredLR(Linear(), Constant(), 0.25, factors, exponent)
    losses = [
        train(shortened(one, 0.25).with_base_lr(0.05 * factor), Constant(), seed).validation[-1]
        for factor, seed in zip(factors, seeds(7, 4)[1:], strict=True)
    ]
    best = 0.05 * lowest_point(factors, losses)
    if exponent is None:
        lr = ConvexBound().transfer(best, Constant(), 15, Linear(), 60)
    else:
        lr = TokenHorizon(0.32).transfer(ConvexBound().transfer(best, Constant(), 15, Linear(), 15), 15, 60)
    found = driver.run(one, 7)
    assert same(found, dataclasses.replace(train(one.with_base_lr(lr), Linear(), 7), spent=3 * 15 + 60))


def test_a_shortened_task_keeps_its_drift_in_proportion():
    whole = task(drift=0.5)
    short = shortened(whole, 0.25)
    assert (whole.drift_until, short.drift_until) == (30, 8)
    assert (short.config.num_steps, short.config.num_decisions) == (15, 14)
    assert shortened(whole, 1e-6).config.num_steps == 2


@pytest.mark.parametrize(
    ("driver", "runs"), [(Refined(), 1), (LawOptimised(), 1), (TransferredLR(factors=(1.0, 2.0)), 2)]
)
def test_what_fails_before_the_last_run_is_the_result_and_is_paid_for(driver, runs):
    found = driver.run(failing(), 0)
    assert found.validation[-1] == found.test == np.inf
    assert 0 < found.spent <= runs * 40


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Refined(parent=WRONG), TypeError, "parent must be an open-loop schedule, got str"),
        (lambda: Refined(rounds=0), ValueError, "rounds must be an integer >= 1, got 0"),
        (lambda: LawOptimised(WRONG), TypeError, "law must be a LossCurveLaw.*give for example MultiPowerLaw"),
        (lambda: LawOptimised(parents=(Linear(),)), ValueError, "parents must be at least two schedules, got 1"),
        (lambda: LawOptimised(skip=1.0), ValueError, r"skip must be a finite number in \[0\.0, 0\.9\]"),
        (
            lambda: TransferredLR(tuned=WRONG),
            TypeError,
            "tuned must be an open-loop schedule, got str",
        ),
        (lambda: TransferredLR(share=0.0), ValueError, "share must be a finite number in"),
        (lambda: TransferredLR(factors=(1.0, 0.5)), ValueError, "factors must be positive and increasing"),
        (lambda: TransferredLR(exponent=99.0), ValueError, "exponent must be a finite number in"),
    ],
)
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
