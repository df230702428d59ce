"""Refinement, the convex bound of the last iterate, and learning rates transferred by laws."""

import itertools
import math

import numpy as np
import pytest

from rlsched import WSD, Constant, Cosine, Linear
from rlsched.controllers.schedules.tabulated import Tabulated
from rlsched.laws import ConvexBound, Refinement, TokenHorizon, lowest_point

BOUND = ConvexBound()


def values(schedule, steps):
    return np.array(Tabulated.of(schedule, steps).values)


def test_equal_gradient_norms_give_linear_decay():
    for steps, power in itertools.product((1, 2, 17, 400), (0.5, 1.0, 2.0)):
        refined = Refinement(power).schedule(np.full(steps, 3.7))
        np.testing.assert_allclose(refined.values, values(Linear(), steps), rtol=1e-12)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_refinement_is_the_formula_spelled_out(power):
    norms = np.random.default_rng(0).uniform(0.1, 3.0, 30)
    weights = [norm**-power for norm in [*norms, norms[-1]]]
    rates = np.array([weights[t] * sum(weights[t + 1 :]) for t in range(30)])
    refined = Refinement(power, filter_share=0.0)
    np.testing.assert_allclose(refined.schedule(norms).values, rates / rates.max(), rtol=1e-12)
    # The loss may be in any unit.
    np.testing.assert_allclose(refined.schedule(1e9 * norms).values, rates / rates.max(), rtol=1e-12)


def test_the_filter_is_the_median_filter_of_scipy_padded_as_the_authors_do():
    from scipy.ndimage import median_filter

    norms = np.random.default_rng(0).uniform(0.1, 3.0, 200)
    for share in (0.0, 0.05, 0.1, 0.35):
        width = 2 * (int(share * 200) // 2) + 1
        expected = median_filter(np.pad(norms, (0, 2 * width), mode="reflect"), size=width, mode="nearest")
        np.testing.assert_array_equal(Refinement(filter_share=share).smoothed(norms), expected[: -2 * width])
    spiked = np.ones(100)
    spiked[40:44] = 1e6
    np.testing.assert_allclose(Refinement().schedule(spiked).values, values(Linear(), 100))


def test_large_norms_at_the_start_give_a_warmup_and_at_the_end_a_fast_decay():
    progress = np.arange(200) / 200
    early = np.array(Refinement().schedule(1.0 + 5.0 * np.exp(-20 * progress)).values)
    assert early[0] < 0.1
    assert 10 < np.argmax(early) < 80
    late = np.array(Refinement().schedule(1.0 + 5.0 * progress**4).values)
    assert late[160] < 0.25 * (1 - 160 / 200)


def test_norms_measured_now_and_then_are_interpolated_to_steps():
    norms = np.exp(np.linspace(1.0, 0.0, 100))
    where = np.array([1, 2, 4, 11, 29, 46, 64, 82, 100])
    whole, some = Refinement().schedule(norms), Refinement().schedule(norms[where - 1], where)
    np.testing.assert_allclose(some.values, whole.values, rtol=1e-6)
    assert len(Refinement().schedule([1.0, 1.0], [1, 50], 60).values) == 60


def test_refinement_lowers_the_bound_that_it_is_derived_from():
    progress = np.arange(300) / 300
    for norms in (1.0 + 5.0 * np.exp(-10 * progress), 1.0 + 4.0 * progress**3, 2.0 + np.sin(9 * progress)):
        bound = ConvexBound(grad_norm=tuple(norms))
        refined = Refinement(filter_share=0.0).schedule(norms)
        assert bound.best_lr(refined, 300)[1] < bound.best_lr(Linear(), 300)[1]


@pytest.mark.parametrize("schedule", [Constant(), Linear(), Cosine(), WSD(0.3)])
def test_the_convex_bound_is_its_sums_spelled_out(schedule):
    eta, grad, steps = 0.3 * values(schedule, 25), np.random.default_rng(0).uniform(0.5, 2.0, 25), 25
    expected = (1.7**2 + sum((eta * grad) ** 2)) / (2 * sum(eta))
    for k in range(steps - 1):
        expected += 0.5 * eta[k] / sum(eta[k + 1 :]) * sum((eta[k:] * grad[k:]) ** 2) / sum(eta[k:])
    assert ConvexBound(1.7, tuple(grad)).of(eta) == pytest.approx(expected, rel=1e-12)


def test_the_bound_has_a_logarithm_under_a_constant_learning_rate_and_none_under_linear_decay():
    for steps in (10, 100, 10_000):
        harmonic = sum(1.0 / n for n in range(1, steps))
        assert BOUND.best_lr(Constant(), steps)[1] == pytest.approx(math.sqrt((1 + harmonic) / steps), rel=1e-9)
        rising = (2 * steps + 1) / 6 + 2 * (steps - 1) / 3 + harmonic
        linear = BOUND.best_lr(Linear(), steps)[1]
        assert linear == pytest.approx(2 * math.sqrt(rising / (steps * (steps + 1))), rel=1e-9)
        others = [BOUND.best_lr(other, steps)[1] for other in (Constant(), Cosine(), WSD(0.2))]
        assert linear < min(others) or steps == 10
    assert BOUND.best_lr(Linear(), 10**6)[1] * 10**3 == pytest.approx(2.0, rel=1e-4)


def test_the_best_learning_rate_is_where_the_bound_is_lowest():
    bound = ConvexBound(distance=3.0, grad_norm=0.5)
    for schedule in (Constant(), Cosine()):
        lr, lowest = bound.best_lr(schedule, 50)
        assert bound.of(lr * values(schedule, 50)) == pytest.approx(lowest, rel=1e-12)
        assert min(bound.of(factor * lr * values(schedule, 50)) for factor in (0.9, 1.1)) > lowest


def test_subgradient_descent_keeps_what_the_bound_promises():
    start = np.array([0.6, -0.8, 0.3])
    bound = ConvexBound(distance=float(np.linalg.norm(start)), grad_norm=math.sqrt(3.0))
    for schedule, steps in itertools.product((Constant(), Linear(), Cosine()), (5, 40)):
        for factor in (0.1, 1.0, 10.0):
            rates = factor * bound.best_lr(schedule, steps)[0] * values(schedule, steps)
            x = start.copy()
            for lr in rates[:-1]:
                x = x - lr * np.sign(x)  # of the sum of |x|, whose minimum is 0
            assert abs(x).sum() <= bound.of(rates)


def test_steps_that_move_nothing_change_no_bound():
    assert BOUND.of([0.5, 0.5, 0.0, 0.0]) == BOUND.of([0.5, 0.5]) == 1.0


def test_learning_rates_are_transferred_between_schedules_and_horizons():
    assert BOUND.transfer(0.1, Linear(), 100, Linear(), 100) == pytest.approx(0.1, rel=1e-12)
    assert BOUND.transfer(0.1, Linear(), 10_000, Linear(), 40_000) == pytest.approx(0.05, rel=1e-3)
    up = BOUND.transfer(0.1, Constant(), 500, Linear(), 500)
    assert up > 0.2
    assert BOUND.transfer(up, Linear(), 500, Constant(), 500) == pytest.approx(0.1)
    assert ConvexBound(7.0, 0.3).transfer(0.1, Constant(), 500, Linear(), 500) == pytest.approx(up)


def test_a_horizon_law_is_recovered_and_applied():
    horizons = np.array([100, 300, 1000])
    law = TokenHorizon.fit(horizons, 0.7 * horizons**-0.32)
    assert law.exponent == pytest.approx(0.32)
    assert law.transfer(0.1, 100, 1600) == pytest.approx(0.1 / 16**0.32)


def test_the_lowest_point_is_the_vertex_of_a_parabola_unless_there_is_none():
    lr = np.geomspace(0.01, 1.0, 7)
    assert lowest_point(lr, 1.0 + (np.log(lr) - np.log(0.07)) ** 2) == pytest.approx(0.07)
    assert lowest_point(lr, lr) == 0.01
    assert lowest_point([0.1, 0.2, 0.4], [2.0, 1.0, np.inf]) == 0.2
    assert lowest_point([0.1, 0.2, 0.4], [2.0, np.nan, 3.0]) == 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Refinement(power=-1.0), r"power must be a finite number >= 0\.0, got -1\.0"),
        (lambda: Refinement(filter_share=2.0), r"filter_share must be a finite number in \[0\.0, 1\.0\]"),
        (lambda: Refinement().schedule([1.0, 0.0]), r"grad_norm must be positive, got 0\.0: leave out windows"),
        (lambda: Refinement().schedule([1.0, np.nan]), "grad_norm must be finite everywhere"),
        (lambda: Refinement().schedule([1.0, 1.0], [1, 1]), "steps must be 2 increasing numbers >= 1"),
        (lambda: Refinement().schedule([1.0, 1.0], [1, 9], 5), "num_steps must be an integer >= 9, got 5"),
        (lambda: ConvexBound(distance=0.0), "distance must be a finite number >="),
        (lambda: ConvexBound(grad_norm=(1.0, -1.0)), r"grad_norm must be positive, got -1\.0"),
        (lambda: ConvexBound(grad_norm=(1.0, 1.0)).of([1.0] * 3), "grad_norm must be a number or one for each"),
        (lambda: BOUND.of([0.0, 0.0]), "lr must be >= 0 everywhere and > 0 somewhere"),
        (lambda: BOUND.transfer(0.0, Linear(), 10, Linear(), 20), "lr must be a finite number >="),
        (lambda: TokenHorizon.fit([100], [0.1]), "horizons must be at least two different ones"),
        (lambda: TokenHorizon.fit([100, 200], [0.1, 0.0]), "horizons and best_lr must be positive"),
        (lambda: TokenHorizon().transfer(0.1, 0, 10), "tuned_steps must be a finite number >="),
        (lambda: lowest_point([0.2, 0.1], [1.0, 1.0]), "lr must be positive and increasing"),
        (lambda: lowest_point([0.1, 0.2], [np.inf, np.nan]), "loss must be finite somewhere.* lower the learning"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
