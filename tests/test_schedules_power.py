"""The power scheduler: a power law in tokens, and so no function of progress."""

import copy
import math

import numpy as np
import pytest
import torch

from rlsched import Guard, RLScheduler, RunSpec, Window
from rlsched._check import ArgumentError
from rlsched.controllers.schedules import Power, Warmup


def run(num_steps, batch_size, base_lr=0.02, num_decisions=8):
    return RunSpec.single(num_steps, num_decisions, base_lr, adaptive=True, batch_size=batch_size)


def rates(power, spec, row=0):
    """(T,) multiplier of the base learning rate at each step of one of the runs."""
    state, found = power.init(spec), []
    for index in range(spec.decision_steps.shape[1] + 1):
        at = np.full(spec.num_runs, index)
        window = Window.opening(spec).replace(step=spec.boundary(at), decision=at)
        state, decision = power.decide(state, window)
        decision.check(window)
        found += decision.lr_scale[row, : window.steps_ahead[row]].tolist()
    return np.array(found)


def by_the_paper(power, step, num_steps, batch_size, bound):
    """Its equations 7 and 8 for one step, as a learning rate."""
    per_step = batch_size * power.tokens_per_example
    n, total = step * per_step, num_steps * per_step
    cooling = power.cooldown * total

    def law(tokens):
        return min(bound, batch_size * power.amplitude * tokens**power.exponent) if tokens else bound

    if n < power.warmup_tokens:
        return n / power.warmup_tokens * law(power.warmup_tokens)
    if n <= total - cooling:
        return law(n)
    share = (n - (total - cooling)) / cooling
    return (math.exp(1 - share) - 1) / (math.e - 1) * law(total - cooling)


@pytest.mark.parametrize(
    "power",
    [
        Power(0.5, -0.5, 64, 3000.0, 0.2),
        Power(0.002, -0.3, 1, 0.0, 0.4),
        Power(0.1, -0.8, 16, 100.0, 0.0),
        Power(1.0, -0.6, 8, 0.0, 1.0),
    ],
    ids=repr,
)
def test_every_step_is_as_in_the_paper(power):
    spec = run(200, 12, base_lr=0.02)
    expected = [by_the_paper(power, step, 200, 12, 0.02) for step in range(200)]
    np.testing.assert_allclose(0.02 * rates(power, spec), expected, rtol=1e-9)


def test_the_papers_own_number_for_ten_trillion_tokens():
    # "given a 10 trillion token corpus and a batch size 1024, the predicted optimal learning rate is 0.0011"
    power = Power(amplitude=4.6, exponent=-0.51, tokens_per_example=4096, cooldown=0.0)
    spec = run(round(1e13 / 4096 / 1024) + 1, 1024)
    last = np.array([spec.num_steps[0] - 1])
    window = Window.opening(spec).replace(step=last, decision=np.array([8]))
    assert round(0.02 * power.decide({}, window)[1].lr_scale[0, 0], 4) == 0.0011


def test_the_horizon_matters_only_to_the_cooldown():
    power = Power(0.01, -0.5, 32, warmup_tokens=500.0, cooldown=0.25)
    short, long = rates(power, run(100, 4)), rates(power, run(300, 4, num_decisions=20))
    np.testing.assert_allclose(short[:75], long[:75], rtol=1e-12)
    assert (short[76:] < long[76:100]).all()


def test_at_the_same_tokens_the_rate_is_proportional_to_the_batch_size():
    power = Power(1e-4, -0.5, 10, cooldown=0.0)
    small, large = rates(power, run(400, 5)), rates(power, run(100, 20))
    np.testing.assert_allclose(4 * small[4::4], large[1:], rtol=1e-12)


def test_runs_side_by_side_are_scheduled_as_if_alone_and_groups_share_a_bound():
    power = Power(0.01, -0.5, 8, warmup_tokens=200.0)
    alone = [run(100, 4), run(37, 16, base_lr=0.05), run(60, 8, base_lr=[0.001, 0.01])]
    both = RunSpec.stack(alone)
    for row, spec in enumerate(alone):
        np.testing.assert_allclose(rates(power, both, row), rates(power, spec), rtol=1e-12)
    np.testing.assert_allclose(rates(power, alone[2]), rates(power, run(60, 8, base_lr=0.01)), rtol=1e-12)


def test_what_was_measured_makes_no_difference():
    power, spec = Power(0.01, -0.5), run(100, 4)
    window = Window.opening(spec).replace(step=np.array([20]), decision=np.array([4]))
    expected = power.decide(copy.deepcopy(power.init(spec)), window)[1].lr_scale
    diverged = window.replace(loss=np.array([np.inf]), nonfinite=np.array([3]))
    np.testing.assert_array_equal(power.decide({}, diverged)[1].lr_scale, expected)
    assert (rates(power, run(100, 4, base_lr=0.0)) <= 1.0).all(), "a base learning rate of zero"


def test_in_a_training_loop_it_knows_the_batch_size_or_is_refused():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = RLScheduler(optimizer, 50, controller=Power(0.05, -0.5, cooldown=0.2), batch_size=8)
    for step in range(50):
        expected = by_the_paper(Power(0.05, -0.5, cooldown=0.2), step, 50, 8, 0.1)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)
        optimizer.step()
        scheduler.step()
    with pytest.raises(ArgumentError, match=r"batch size must be known.* pass batch_size="):
        RLScheduler(optimizer, 50, controller=Guard(Power()))


def test_other_schedules_are_not_made_of_it():
    with pytest.raises(TypeError, match="schedule must be an open-loop schedule, got Power"):
        Warmup(Power())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"amplitude": 0.0}, "amplitude"),
        ({"exponent": 0.5}, "exponent"),
        ({"tokens_per_example": 0}, "tokens_per_example"),
        ({"warmup_tokens": -1.0}, "warmup_tokens"),
        ({"cooldown": 1.5}, "cooldown"),
    ],
)
def test_what_is_out_of_range_is_refused(arguments, name):
    with pytest.raises(ArgumentError, match=f"{name} must be"):
        Power(**arguments)
