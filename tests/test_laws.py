"""Laws that predict loss curves: against loops that spell them out, and fitted to curves of known parameters."""

import itertools
from typing import Any

import numpy as np
import pytest

from rlsched import WSD, Constant, Cosine, Linear, RunSpec, Warmup, Window
from rlsched.controllers.schedules.tabulated import Tabulated
from rlsched.laws import AnnealingLaw, LossCurve, MultiPowerLaw

STEPS = 150
MEASURED = np.unique(np.linspace(15, STEPS, 30).astype(int))


def rates(schedule, peak, steps=STEPS):
    return peak * schedule.profile(np.arange(steps) / steps)


def multi_power(peak):
    """The same law in other units of the learning rate."""
    return MultiPowerLaw(0.4, 1.2 * peak**0.5, 0.5, 0.5 / peak, 0.2 * peak**-0.4, 0.6, 0.6)


def annealing(peak):
    return AnnealingLaw(0.4, 1.2 * peak**0.5, 0.02 / peak, 0.5, 0.95)


MAKERS = pytest.mark.parametrize("make", [multi_power, annealing])


def curves(law, peak, noise=0.0, measured=MEASURED):
    rng, found = np.random.default_rng(0), []
    for schedule in (Constant(), Cosine()):
        lr = rates(schedule, peak)
        found.append(
            LossCurve(lr, measured, law.predict(lr, measured) * np.exp(noise * rng.standard_normal(len(measured))))
        )
    return found


def curve(lr, steps, loss):
    return LossCurve(np.array(lr), np.array(steps), np.array(loss))


def crooked(seed, steps=40):
    """Rates with a warm-up, falls and rises."""
    rng = np.random.default_rng(seed)
    return np.concatenate([[0.1, 0.4, 0.9], rng.uniform(0.01, 1.0, steps - 3)])


@pytest.mark.parametrize("seed", range(3))
def test_the_multi_power_law_is_its_sums_spelled_out(seed):
    lr, law = crooked(seed), MultiPowerLaw(0.3, 1.1, 0.6, 0.7, 0.4, 0.8, 0.5)
    expected = []
    for t in range(1, len(lr) + 1):
        loss = law.l0 + law.a * sum(lr[:t]) ** -law.alpha
        for k in range(4, t + 1):  # Steps 2 and 3 are the warm-up.
            x = law.c * lr[k - 1] ** -law.gamma * sum(lr[k - 1 : t])
            loss -= law.b * (lr[k - 2] - lr[k - 1]) * (1.0 - (1.0 + x) ** -law.beta)
        expected.append(loss)
    np.testing.assert_allclose(law.predict(lr), expected, rtol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_the_annealing_law_is_its_sums_spelled_out(seed):
    lr, law = crooked(seed), AnnealingLaw(0.3, 1.1, 0.2, 0.6, 0.7)
    expected = []
    for t in range(1, len(lr) + 1):
        annealed = sum(
            (lr[k - 2] - lr[k - 1]) * law.forget ** (i - k) for i in range(2, t + 1) for k in range(4, i + 1)
        )
        expected.append(law.l0 + law.a * sum(lr[:t]) ** -law.alpha - law.c * annealed)
    np.testing.assert_allclose(law.predict(lr), expected, rtol=1e-10)


@MAKERS
def test_a_law_knows_nothing_of_the_future(make):
    law, lr = make(1.0), crooked(0)
    np.testing.assert_allclose(law.predict(lr[:20]), law.predict(lr)[:20], rtol=1e-12)
    np.testing.assert_allclose(law.predict(lr, [20, 5]), law.predict(lr)[[19, 4]], rtol=1e-12)


def test_long_runs_are_predicted_in_parts(monkeypatch):
    law, lr = multi_power(1.0), crooked(0)
    whole = law.predict(lr)
    monkeypatch.setattr("rlsched.laws.multi_power.TOGETHER", 100)
    np.testing.assert_allclose(law.predict(lr), whole, rtol=1e-12)


@MAKERS
def test_a_learning_rate_of_zero_is_no_trouble(make):
    law = make(1.0)
    assert np.isfinite(law.predict([1.0, 0.5, 0.0, 0.0, 0.5, 0.0])).all()
    assert np.isfinite(law.predict([0.0, 0.5, 1.0, 0.0], [2, 3, 4])).all()
    # To switch off is to stop, but for what annealing still brings.
    off = MultiPowerLaw(**{**vars(multi_power(1.0)), "b": 1.0}).predict([1.0, 1.0, 0.0, 0.0])
    assert off[1] == off[2] == off[3]


@MAKERS
@pytest.mark.parametrize("peak", [0.1, 1e-4])
def test_a_fit_recovers_the_law_that_made_the_curves(make, peak):
    true = make(peak)
    found = type(true).fit(curves(true, peak))
    for name, value in vars(true).items():
        assert vars(found)[name] == pytest.approx(value, rel=1e-3), name
    for schedule in (WSD(0.2), Linear()):
        lr = rates(schedule, peak)
        np.testing.assert_allclose(found.predict(lr), true.predict(lr), rtol=1e-5)


@MAKERS
def test_a_fit_to_noisy_curves_with_an_outlier_predicts_an_unseen_schedule(make):
    true = make(0.1)
    seen = curves(true, 0.1, noise=0.01)
    wild = seen[0].loss.copy()
    wild[10] *= 3.0
    found = type(true).fit([LossCurve(seen[0].lr, MEASURED, wild), seen[1]])
    lr = rates(WSD(0.4), 0.1)
    assert found.predict(lr)[-1] == pytest.approx(true.predict(lr)[-1], rel=0.05)


@MAKERS
def test_an_optimised_schedule_falls_from_its_peak_and_beats_the_usual_ones(make):
    law = make(0.1)
    best = law.optimise(STEPS, 0.1)
    values = np.array(best.values)
    assert len(values) == STEPS
    assert values[0] == 1.0
    assert (np.diff(values) <= 1e-12).all()
    assert values.min() >= 0.0
    lowest = law.predict(0.1 * values)[-1]
    usual = [
        law.predict(rates(s, 0.1))[-1] for s in (Constant(), Cosine(), Linear(), WSD(0.1), WSD(0.2), WSD(0.4))
    ]
    assert lowest < min(usual) - 1e-3


def test_the_optimum_of_a_law_that_can_be_solved():
    # With no momentum S2 is the whole fall, whenever it comes: best is to hold the peak and fall at the end.
    best = AnnealingLaw(l0=0.1, a=1.0, c=2.0, alpha=0.5, forget=0.0).optimise(100, peak=0.01)
    assert min(best.values[:90]) > 0.99
    assert best.values[-1] < 0.3
    # Where falls bring nothing, only the area counts.
    flat = MultiPowerLaw(l0=0.1, a=1.0, alpha=0.5, b=0.0, c=1.0, beta=1.0, gamma=0.5).optimise(100, peak=0.01)
    assert min(flat.values) == pytest.approx(1.0)


def test_tables_of_every_length_are_taken_exactly_by_runs_of_that_length():
    rng = np.random.default_rng(0)
    for steps, smooth in itertools.product((2, 3, 7, 49, 100, 149), (True, False)):
        table = Tabulated(rng.uniform(size=steps), smooth)
        np.testing.assert_allclose(table.profile(np.arange(steps) / steps), table.values, rtol=1e-9)
    run = RunSpec.single(20, 5, 0.1, adaptive=True)
    table, taken = Tabulated(np.linspace(1.0, 0.05, 20)), []
    for decision in range(6):
        index = np.array([decision])
        window = Window.opening(run).replace(decision=index, step=run.boundary(index))
        _, decided = table.decide({}, window)
        taken += decided.check(window).lr_scale[0, : int(window.steps_ahead[0])].tolist()
    np.testing.assert_allclose(taken, table.values, rtol=1e-9)


def test_a_table_is_a_value():
    assert Tabulated([1.0, 0.5]) == Tabulated(np.array([1.0, 0.5])) == Tabulated((1, 0.5))
    assert len({Tabulated([1.0, 0.5]), Tabulated((1.0, 0.5)), Tabulated((1.0, 0.5), smooth=False)}) == 2
    schedule = Warmup(Linear(), 0.1)
    whole = np.arange(100) / 100
    np.testing.assert_allclose(Tabulated.of(schedule, 100).profile(whole), schedule.profile(whole))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Tabulated([]), "values must be a non-empty one-dimensional array"),
        (lambda: Tabulated([1.0, -0.1]), r"values must be >= 0, got -0\.1: a negative"),
        (lambda: Tabulated([1.0, np.nan]), "values must be finite everywhere, got nan at index 1"),
        (lambda: Tabulated.of(Linear(), 0), "num_steps must be an integer >= 1, got 0"),
        (lambda: curve([0.0, 1.0], [1, 2], [1.0, 1.0]), "lr must be positive somewhere in the first 1 steps"),
        (lambda: curve([1.0, 1.0], [1, 3], [1.0, 1.0]), r"steps must be in \[1, 2\], got 1 to 3: lr must have"),
        (lambda: curve([1.0, 1.0], [2, 1], [1.0, 1.0]), r"steps must increase, .* got \[2, 1\]"),
        (lambda: curve([1.0, 1.0], [1, 2], [1.0]), "steps must increase, one for each of 1 losses"),
        (lambda: curve([1.0, 1.0], [1, 2], [1.0, 0.0]), r"loss must be positive, got 0\.0: .* Add a constant"),
        (lambda: curve([1.0, 1.0], [1, 2], [1.0, np.inf]), "loss must be finite everywhere"),
        (lambda: multi_power(1.0).predict([1.0], [2]), r"steps must be in \[1, 1\], got 2 to 2"),
        (lambda: multi_power(1.0).predict([-1.0]), "lr must be >= 0"),
        (lambda: annealing(1.0).optimise(1, 0.1), "num_steps must be an integer >= 2, got 1"),
        (lambda: annealing(1.0).optimise(10, 0.0), r"peak must be a finite number >= .*, got 0\.0"),
        (lambda: MultiPowerLaw(-1.0, 1, 1, 1, 1, 1, 1), r"l0 must be a finite number >= 0\.0, got -1\.0"),
        (lambda: MultiPowerLaw(1, 1, 0.0, 1, 1, 1, 1), "alpha must be .* Fit it to recorded runs"),
        (lambda: AnnealingLaw(1, 1, 1, 1, 1.0), r"forget must be a finite number in \[0\.0, "),
        (
            lambda: MultiPowerLaw.fit(curves(multi_power(0.1), 0.1, measured=np.array([50, 100, 150]))),
            "curves must hold more than 7 losses, got 6: record more",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_no_curve_is_refused():
    wrong: Any
    for wrong in (curves(annealing(0.1), 0.1)[0], [[1.0, 2.0]]):
        with pytest.raises(TypeError, match="curves must be a sequence of LossCurve"):
            AnnealingLaw.fit(wrong)
    wrong = "cosine"
    with pytest.raises(TypeError, match="schedule must be an open-loop schedule"):
        Tabulated.of(wrong, 3)
