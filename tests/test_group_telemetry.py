"""Telemetry of single parameter groups: weight spectra and rotations."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rlsched import RunSpec, Window, ranks
from rlsched.monitor import Monitor
from rlsched.telemetry import hill_exponent
from tests.group_rates import SPEC, known, random

# The exponent of a spectrum.


def power_law(exponent, count):
    """Quantiles of the density proportional to x^-exponent on x >= 1."""
    return (1.0 - (np.arange(count) + 0.5) / count) ** (-1.0 / (exponent - 1.0))


def slow_hill(eigenvalues):
    """As the formula is printed, with indices from 1."""
    x = [math.nan, *sorted(eigenvalues)]
    n = len(eigenvalues)
    k = n // 2
    return 1 + k / sum(math.log(x[n - i + 1] / x[n - k]) for i in range(1, k + 1))


@pytest.mark.parametrize("exponent", [1.5, 2.0, 3.5, 6.0])
def test_the_exponent_of_a_known_power_law_is_found(exponent):
    spectrum = 7.0 * power_law(exponent, 20_000)  # in any unit
    assert hill_exponent(spectrum) == pytest.approx(exponent, rel=2e-3)
    drawn = np.random.default_rng(0).pareto(exponent - 1.0, 20_000) + 1.0
    assert hill_exponent(drawn) == pytest.approx(exponent, abs=4 * (exponent - 1) / math.sqrt(10_000))


@pytest.mark.parametrize("count", [2, 3, 4, 7, 10, 33])
def test_the_exponent_is_the_printed_formula(count):
    values = np.random.default_rng(count).exponential(size=count)
    assert hill_exponent(values) == pytest.approx(slow_hill(values), rel=1e-12)


def test_eigenvalues_that_are_zero_to_rounding_do_not_count():
    values = np.random.default_rng(0).exponential(size=20)
    assert hill_exponent(np.concatenate([values, np.full(30, 1e-15), np.zeros(5)])) == hill_exponent(values)


@pytest.mark.parametrize(
    "values", [[], [1.0], [0.0, 0.0], [1.0, 1.0, 1.0], [1.0, np.inf], [1.0, np.nan, 2.0], [1.0, 1.0, 1.0 + 1e-6]]
)
def test_a_spectrum_without_a_tail_has_no_exponent(values):
    assert math.isnan(hill_exponent(np.array(values)))


# What hosts measure.


def close(monitor, optimizer, steps=1):
    monitor.begin(0, steps, 1)
    for _ in range(steps):
        optimizer.step()
        monitor.record(1.0)
    rates = [group["lr"] for group in optimizer.param_groups]
    return monitor.close(RunSpec.single(100, 10, rates, adaptive=False, group_rates=True), 1)


def alphas(*groups):
    optimizer = torch.optim.SGD([{"params": group} for group in groups], lr=0.1)
    window = close(Monitor(optimizer, frozenset({"group_alpha"})), optimizer)
    assert window.group_rotation is None
    return window.group_alpha


def test_the_exponent_of_a_matrix_is_that_of_its_spectrum():
    spectrum = power_law(3.0, 64)
    left, right = (torch.linalg.qr(random(96, 64, seed=seed).detach())[0] for seed in (0, 1))
    matrix = nn.Parameter(left * torch.tensor(spectrum, dtype=torch.float32).sqrt() @ right.T)
    assert alphas([matrix])[0, 0] == pytest.approx(slow_hill(spectrum), rel=1e-4)
    assert alphas([nn.Parameter(matrix.detach().T.half())])[0, 0] == pytest.approx(slow_hill(spectrum), rel=0.02)


def test_a_group_has_the_mean_exponent_of_its_matrices():
    one, other = random(20, 30), random(40, 10, seed=1)
    copies = [nn.Parameter(w.detach().clone()) for w in (one, other)]
    found = alphas([one], [other, random(7)], [copies[0], random(5), copies[1]], [random(9)])[0]
    expected = [slow_hill(np.linalg.svd(w.detach().double(), compute_uv=False) ** 2) for w in (one, other)]
    np.testing.assert_allclose(found[:3], [*expected, np.mean(expected)], rtol=1e-4)
    assert math.isnan(found[3]), "biases have no spectrum"


def test_the_matrices_of_a_kernel_share_a_spectrum():
    kernel = random(6, 4, 3, 2)
    spectrum = [
        np.linalg.svd(kernel.detach()[:, :, i, j].double(), compute_uv=False) ** 2
        for i in range(3)
        for j in range(2)
    ]
    assert alphas([kernel])[0, 0] == pytest.approx(slow_hill(np.concatenate(spectrum)), rel=1e-4)


def test_weights_that_cannot_be_measured_have_no_exponent():
    lost = random(8, 8)
    lost.data[2, 3] = math.nan
    frozen = random(8, 8).requires_grad_(False)
    found = alphas([lost], [nn.Parameter(torch.zeros(8, 8))], [nn.Parameter(torch.eye(8))], [frozen, random(3)])
    assert np.isnan(found).all()


def test_rotation_is_the_mean_angle_of_the_sampled_updates():
    weights = [random(30, 20), random(10, 10, 3, seed=1)]
    biases = [random(30, seed=2), random(8, seed=3)]
    first, second, third = [weights[0], biases[0]], [weights[1]], [biases[1]]
    groups: list[dict[str, Any]] = [{"params": first}, {"params": second, "lr": 1e-5}, {"params": third}]
    optimizer = torch.optim.SGD(groups, lr=0.01)
    monitor = Monitor(optimizer, frozenset({"group_rotation"}))
    monitor.begin(0, 6, 1)
    expected = []
    for step in range(6):
        for parameter in weights + biases:
            parameter.grad = random(*parameter.shape, seed=10 + step).detach()
        before = [w.detach().double().flatten() for w in weights]
        optimizer.step()
        monitor.record(1.0)
        after = [w.detach().double().flatten() for w in weights]
        expected.append([1 - float(b @ a / b.norm() / a.norm()) for b, a in zip(before, after, strict=True)])
    window = monitor.close(RunSpec.single(9, 3, [0.01, 1e-5, 0.01], adaptive=False, group_rates=True), 1)
    assert window.group_rotation is not None
    np.testing.assert_allclose(window.group_rotation[0, :2], np.mean(expected[2:], axis=0), rtol=1e-4)
    assert math.isnan(window.group_rotation[0, 2]), "biases have no direction to start with"
    assert 0 < window.group_rotation[0, 1] < 1e-9, "exact also where it is tiny"


def test_updates_that_were_not_made_turn_nothing():
    weight = random(4, 4)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    monitor = Monitor(optimizer, frozenset({"group_rotation"}))
    monitor.begin(0, 1, 1)
    window = monitor.close(RunSpec.single(9, 3, 0.1, adaptive=False, group_rates=True), 1)
    assert np.isnan(known(window.group_rotation)).all()
    assert close(monitor, optimizer).group_rotation == 0.0


def test_rotations_of_large_groups_are_measured_on_a_fair_subsample():
    weight = random(512, 512)
    weight.grad = random(512, 512, seed=1).detach()
    weight.grad[:, ::8] *= 10.0
    optimizer = torch.optim.SGD([weight], lr=1e-3)
    start = weight.detach().clone()

    def measure(elements):
        weight.data.copy_(start)
        return close(Monitor(optimizer, frozenset({"group_rotation"}), elements), optimizer).group_rotation[0, 0]

    assert measure(2**12) == pytest.approx(measure(2**20), rel=0.1)


def test_ranks_agree_about_groups(monkeypatch):
    """Here the mean over two ranks is twice the value."""
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "mean", lambda values: 2.0 * values)
    window = Window.opening(SPEC).replace(group_alpha=np.array([[1.0, 2.0, 3.0]]), grad_norm=np.array([5.0]))
    agreed = ranks.agree(window)
    assert known(agreed.group_alpha).tolist() == [[2.0, 4.0, 6.0]]
    assert agreed.grad_norm.tolist() == [10.0]
    assert agreed.group_rotation is None
