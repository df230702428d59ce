"""Noisy quadratics: real runs follow the theory, and the schedule it calls best is."""

from typing import Any

import numpy as np
import pytest

from rlsched.envs.population import Population
from rlsched.envs.tasks import Quadratics, QuadraticsConfig
from rlsched.envs.tasks.quadratics import excess_risks, greedy_lrs


def config(**changes):
    settings = {
        "data_seed": 0, "num_steps": 60, "num_decisions": 10, "batch_size": 8, "curriculum": False,
        "dimensions": 16, "noise": 3.0,
    }  # fmt: skip
    return QuadraticsConfig(**settings | changes)


def final_risks(settings, lrs, seeds, marks):
    """(seeds, marks) excess risks of real runs, side by side, after the given numbers of steps."""
    population = Population([Quadratics().build(config(**settings, data_seed=seed)) for seed in range(seeds)])
    population.reset(range(seeds))
    found = []
    for start, end in zip([0, *marks], marks, strict=False):
        rates = np.broadcast_to(lrs[start:end], (seeds, end - start))
        population.advance(np.full(seeds, end - start), rates, population.spec.bucket_shares)
        found.append(population.validation_loss())
    return np.stack(found, axis=1)


@pytest.mark.parametrize(
    ("settings", "schedule"),
    [
        ({}, "greedy"),
        ({"condition": 20.0}, "greedy"),
        ({"condition": 20.0, "init": 3.0}, "constant"),
        ({"noise": 0.0}, "constant"),
        ({"num_buckets": 1, "condition": 5.0}, "linear"),
    ],
)
def test_real_runs_follow_the_recursion(settings, schedule):
    task = config(**settings)
    fall = 1 - np.arange(task.num_steps) / task.num_steps
    lrs = {"greedy": greedy_lrs(task), "constant": np.full(task.num_steps, 0.2), "linear": 0.3 * fall}[schedule]
    expected, marks = excess_risks(task, lrs), [1, 5, 20, 60]
    found = final_risks(settings, lrs, 150, marks)
    deviation = found.mean(axis=0) - expected[marks]
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(deviation) < 4 * error + 1e-12).all()
    # Or else it would hold the theory to nothing.
    assert (error < 0.06 * expected[marks]).all()


def test_the_greedy_rate_is_the_best_next_step():
    task = config(condition=10.0)
    lrs = greedy_lrs(task)
    best = excess_risks(task, lrs)
    for step in (0, 3, 40):
        for factor in (0.9, 1.1):
            other = lrs[: step + 1].copy()
            other[step] *= factor
            assert excess_risks(task, other)[-1] > best[step + 1]


def test_with_equal_curvatures_its_risk_has_a_closed_form():
    task = config(init=2.0)
    second_moments = excess_risks(task, greedy_lrs(task)) / (0.5 * task.dimensions)
    steps = np.arange(task.num_steps + 1)
    np.testing.assert_allclose(1 / second_moments, 1 / 2.0**2 + steps * 8 / 3.0**2)


def test_with_equal_curvatures_it_beats_constant_rates_and_linear_decay():
    task = config(num_steps=100)
    fall = 1 - np.arange(100) / 100
    rates = np.geomspace(1e-3, 1.5, 60)
    schedules = {"constant": np.ones(100), "linear": fall}
    greedy = greedy_lrs(task)
    expected = {"greedy": excess_risks(task, greedy)[-1]}
    real = {"greedy": final_risks({"num_steps": 100}, greedy, 40, [100]).mean()}
    for name, shape in schedules.items():
        finals = [excess_risks(task, rate * shape)[-1] for rate in rates]
        expected[name] = min(finals)
        tuned = rates[int(np.argmin(finals))] * shape
        real[name] = final_risks({"num_steps": 100}, tuned, 40, [100]).mean()
    assert expected["greedy"] < 0.9 * expected["linear"] < 0.9 * expected["constant"]
    assert real["greedy"] < real["linear"] < real["constant"]
    for name, risk in expected.items():
        assert real[name] == pytest.approx(risk, rel=0.25)


def test_with_unequal_curvatures_it_is_short_sighted():
    task = config(condition=100.0, num_steps=300, init=3.0)
    linear = [excess_risks(task, rate * (1 - np.arange(300) / 300))[-1] for rate in np.geomspace(0.01, 1.5, 40)]
    assert min(linear) < 0.9 * excess_risks(task, greedy_lrs(task))[-1]


def test_the_loss_has_the_optimum_at_the_mean():
    task: Any = Quadratics().build(config(condition=4.0))
    (examples,) = task.train.tensors
    assert len(examples) >= 60 * 8
    assert examples.std().item() == pytest.approx(3.0, rel=0.05)
    assert (task.buckets.sizes == len(examples) // 4).all()
    hardness = [float(examples[task.buckets.ids == k].square().sum(1).mean()) for k in range(4)]
    assert hardness == sorted(hardness)
