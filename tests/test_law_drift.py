"""Learning rates under drift, against simulations, numerical minima and what is known of their limits."""

import math

import numpy as np
import pytest

from rlsched.laws import ConvexDrift, DriftLaw

LAW = DriftLaw(dimension=3, noise=0.5, distance=2.0, batch_size=2)


@pytest.mark.parametrize("worst", [False, True])
def test_the_rates_under_drift_minimise_the_expected_regret(worst):
    from scipy.optimize import minimize

    law = DriftLaw(3, 0.5, 2.0, 2, worst)
    shifts = np.array([0.0, 0.5, 0.1, 0.0, 1.0, 0.2])
    found = minimize(
        lambda lr: law.regret(shifts, np.abs(lr)), np.full(6, 0.3), method="BFGS", options={"gtol": 1e-8}
    )
    assert law.regret(shifts) == pytest.approx(found.fun, rel=1e-6)
    assert law.regret(shifts) == pytest.approx(law.regret(shifts, law.rates(shifts)), rel=1e-12)
    np.testing.assert_allclose(law.rates(shifts)[:-1], np.abs(found.x)[:-1], atol=1e-3)


def test_the_expected_regret_is_that_of_simulated_regressions():
    rng, shifts, lr = np.random.default_rng(0), np.array([0.0, 1.0, 0.0, 0.5]), np.array([0.2, 0.1, 0.3, 0.2])
    runs, regret = 40_000, 0.0
    error = np.tile([2.0, 0.0, 0.0], (runs, 1))
    for rate, move in zip(lr, shifts, strict=True):
        regret += 0.5 * (error**2).sum(axis=1).mean()
        x, noise = rng.standard_normal((2, runs, 3)), 0.5 * rng.standard_normal((2, runs))
        gradient = (((x * error).sum(axis=2) - noise)[..., None] * x).mean(axis=0)
        away = rng.standard_normal((runs, 3))
        error = error - rate * gradient + move * away / np.linalg.norm(away, axis=1, keepdims=True)
    assert LAW.regret(shifts, lr) == pytest.approx(regret, rel=0.01)


def test_without_drift_rates_fall_as_one_over_t_and_with_it_they_settle_or_rise():
    still = DriftLaw(10, 1.0, 3.0).rates(np.zeros(5000))
    assert (np.diff(still) < 0).all()
    assert still[-1] * 5000 == pytest.approx(1.0, rel=0.05)
    steady = DriftLaw(10, 1.0, 3.0).rates(np.full(5000, 0.01))
    assert steady[-1] == pytest.approx(steady[-1000], rel=1e-6)
    assert steady[-1] == pytest.approx(0.01 / math.sqrt(10.0), rel=0.05)
    jump = np.zeros(100)
    jump[50] = 3.0
    rates = LAW.rates(jump)
    assert rates[51] > 3 * rates[50]
    assert (np.diff(rates[51:]) < 0).all()


def test_moves_straight_away_cost_more_and_unstable_rates_all():
    shifts = np.full(50, 0.1)
    assert DriftLaw(3, 0.5, 2.0, 2, worst=True).regret(shifts) > LAW.regret(shifts)
    assert LAW.regret(np.full(500, 0.1), np.full(500, 30.0)) == math.inf
    assert (DriftLaw(1, 0.0, 1.0).rates(np.zeros(5000)) > 0).all()


def test_schedules_under_drift_are_relative_to_a_base_learning_rate():
    shifts = np.array([0.0, 0.5, 0.0])
    np.testing.assert_allclose(0.1 * np.array(LAW.schedule(shifts, 0.1).values), LAW.rates(shifts))
    convex = ConvexDrift(2.0, 1.0)
    np.testing.assert_allclose(0.1 * np.array(convex.schedule(shifts, 0.1).values), convex.rates(shifts))


def test_the_convex_drift_bound_is_minimised():
    law = ConvexDrift(diameter=2.0, grad_norm=3.0)
    np.testing.assert_allclose(law.rates(np.zeros(400)), 2.0 / (3.0 * 20.0), rtol=1e-3)
    shifts = np.zeros(400)
    shifts[200:240] = 0.2
    rates = law.rates(shifts)
    assert rates[210] > 2 * rates[100]
    constant = math.sqrt((4.0 + 4.0 * shifts.sum()) / (400 * 9.0))
    assert law.bound(rates, shifts) < 0.9 * law.bound(np.full(400, constant), shifts)
    nudged = [law.bound(rates * (1 + 0.1 * np.sin(np.arange(400) // 20 * k)), shifts) for k in range(1, 9)]
    assert law.bound(rates, shifts) < min(nudged)
    assert ConvexDrift(2.0, 3.0, max_lr=0.05).rates(shifts).max() <= 0.05 * (1 + 1e-9)


def test_gradient_descent_on_a_moving_target_keeps_what_the_convex_bound_promises():
    shifts = np.where(np.arange(200) % 50 == 49, 0.4, 0.001)
    target = np.concatenate([[1.0], 1.0 - np.cumsum(shifts)])
    for lr in (np.full(200, 0.05), ConvexDrift(2.0, 1.0).rates(shifts)):
        x, regret, widest = 0.0, 0.0, 0.0
        for t in range(200):
            regret += abs(x - target[t])
            widest = max(widest, abs(x - target[t]))
            x -= lr[t] * np.sign(x - target[t])
            widest = max(widest, abs(x - target[t]), abs(x - target[t + 1]))
        assert regret <= ConvexDrift(widest, 1.0).bound(lr, shifts)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DriftLaw(0, 1.0, 1.0), "dimension must be an integer >= 1, got 0"),
        (lambda: LAW.rates([-0.1]), r"shifts must be >= 0, got -0\.1: they are distances"),
        (lambda: LAW.regret([0.1], [0.1, 0.1]), "lr must be 1 numbers >= 0, one for each shift"),
        (lambda: ConvexDrift(1.0, 1.0).bound([0.0], [0.1]), "lr must be 1 positive numbers"),
        (lambda: ConvexDrift(1.0, 1.0, max_lr=-1.0), "max_lr must be a finite number >="),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
