"""Learning rates of single parameter groups: their telemetry, the controllers that set them, and the hosts."""

import copy
import dataclasses
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rlsched import Constant, Decision, Guard, Linear, RLScheduler, RunSpec, Window, ranks
from rlsched.contract import GROUP_TELEMETRY, RUN_TELEMETRY, Array, fit_groups
from rlsched.controllers import Curriculum, FixedCurriculum
from rlsched.controllers.closed_loop.layer_rotation import MAX_MOVE, LayerRotation
from rlsched.controllers.closed_loop.temp_balance import SigmoidBalance, TempBalance
from rlsched.envs import TorchRun
from rlsched.envs.drive import drive
from rlsched.envs.population import Population
from rlsched.envs.population.eager_block import EagerBlock
from rlsched.envs.tasks import Digits, DigitsConfig
from rlsched.monitor import Monitor
from rlsched.telemetry import hill_exponent

SPEC = RunSpec.single(100, 10, [0.1, 0.2, 0.4], adaptive=False, group_rates=True)
BOTH = [TempBalance(), LayerRotation()]


def known(values: Array | None) -> Array:
    assert values is not None
    return values


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
        monitor.record(np.ones(1))
    rates = [group["lr"] for group in optimizer.param_groups]
    return monitor.close(RunSpec.single(100, 10, rates, adaptive=False, group_rates=True), 1)


def random(*shape, seed=0):
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


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
        monitor.record(np.ones(1))
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


def test_spectra_are_computed_once_per_window_and_only_if_asked_for(monkeypatch):
    calls, svdvals = [], torch.linalg.svdvals

    def counted(matrix):
        calls.append(1)
        return svdvals(matrix)

    monkeypatch.setattr(torch.linalg, "svdvals", counted)
    for controller, count in ((TempBalance(), 3), (LayerRotation(), 0), (Linear(), 0)):
        calls.clear()
        run = ThreeLayers(controller, steps=40)
        run.train(40)
        assert len(calls) == count * (len(run.scheduler.history()["step"]) - 1)


def test_ranks_agree_about_groups(monkeypatch):
    """Here the mean over two ranks is twice the value."""
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "mean", lambda values: 2.0 * values)
    window = Window.opening(SPEC).replace(group_alpha=np.array([[1.0, 2.0, 3.0]]), grad_norm=np.array([5.0]))
    agreed = ranks.agree(window)
    assert known(agreed.group_alpha).tolist() == [[2.0, 4.0, 6.0]]
    assert agreed.grad_norm.tolist() == [10.0]
    assert agreed.group_rotation is None


# What controllers make of it.


def measured(decision, alpha=None, rotation=None, spec=SPEC, **changes):
    index = np.array([decision] * spec.num_runs)
    fields = {"group_alpha": alpha, "group_rotation": rotation}
    arrays = {name: None if value is None else np.atleast_2d(value) for name, value in fields.items()}
    return Window.opening(spec).replace(decision=index, step=spec.boundary(index), **arrays, **changes)


def follow(controller, windows, spec=SPEC):
    state, scales = controller.init(spec), []
    for window in windows:
        state, decision = controller.decide(state, window)
        decision.check(window)
        scales.append(decision.group_scale)
    return state, scales


def test_temp_balance_by_hand():
    _, scales = follow(TempBalance(), [Window.opening(SPEC), measured(1, [2.0, 3.0, 6.0]), measured(2, [4, 4, 4])])
    np.testing.assert_allclose(scales, [[[1.0, 1.0, 1.0]], [[0.5, 0.75, 1.5]], [[1.0, 1.0, 1.0]]])
    _, scales = follow(TempBalance(low=0.8, high=1.2), [measured(1, [3.0, 1.0, 2.0])])
    np.testing.assert_allclose(scales, [[[1.2, 0.8, 1.0]]])
    _, scales = follow(TempBalance(leave_out=(0,)), [measured(1, [90.0, 1.0, 2.0])])
    np.testing.assert_allclose(scales, [[[1.0, 0.5, 1.5]]])


def test_temp_balance_is_the_interpolation_of_the_authors():
    alpha = np.random.default_rng(0).uniform(1.5, 8.0, (5, 12))
    expected = [np.interp(row, [row.min(), row.max()], [0.5, 1.5]) for row in alpha]
    np.testing.assert_allclose(TempBalance().scales(alpha), expected)


def test_the_sigmoid_by_hand():
    def by_hand(alpha, mean):
        return 10 ** (1.0 * (1 / (1 + math.exp(-10 * (alpha - mean))) - 0.5))

    _, scales = follow(SigmoidBalance(), [measured(1, [2.0, 2.1, 2.2]), measured(2, [2.0, 2.0, 800.0])])
    np.testing.assert_allclose(scales[0][0], [by_hand(2.0, 2.1), 1.0, by_hand(2.2, 2.1)])
    np.testing.assert_allclose(scales[1][0], [10**-0.5, 10**-0.5, 10**0.5])


def test_layer_rotation_by_hand():
    control = LayerRotation(gain=0.5)
    angles = np.array([0.1, 0.2, 0.4])
    _, scales = follow(control, [Window.opening(SPEC), measured(1, rotation=1 - np.cos(angles))])
    np.testing.assert_allclose(scales, [[[1.0, 1.0, 1.0]], [[2.0**0.5, 1.0, 2.0**-0.5]]], rtol=1e-9)
    # Rates of 1/2 ask for arctan(1/2) at the multiplier 1.
    _, scales = follow(
        LayerRotation(rate=0.5, gain=1.0), [Window.opening(SPEC), measured(1, rotation=1 - np.cos(angles))]
    )
    np.testing.assert_allclose(scales[1], [[2.0, 2.0, math.atan(0.5) / 0.4]], rtol=1e-9)


def test_the_target_of_a_rate_follows_the_wrapped_schedule_in_the_sampled_steps():
    control, window = LayerRotation(Linear(), rate=0.01, gain=1.0), measured(9)
    steps = np.arange(int(window.step[0]), int(window.step[0] + window.steps_ahead[0]))
    assert len(steps) > 4
    asked = math.atan(0.01 * math.sqrt(np.mean((1 - steps[-4:] / 100) ** 2)))
    found = 1 - np.cos(np.array([[0.9, 1.1, 1.2]]) * asked)
    _, scales = follow(control, [window, measured(10, rotation=found)])
    np.testing.assert_allclose(scales[1], 1 / np.array([[0.9, 1.1, 1.2]]), rtol=1e-6)


def test_layer_rotation_keeps_the_learning_rate_as_a_whole():
    """Also where its limit cuts off one side."""
    windows = [measured(1, rotation=[1e-2, 1e-2, 1e-9]), measured(2, rotation=[1e-3, 1e-4, 1e-8])]
    _, scales = follow(LayerRotation(), windows)
    assert [np.log(scale).sum() for scale in scales] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert scales[0][0, 2] > 1.0 > scales[0][0, 0]


def test_a_group_whose_angle_follows_its_scale_is_brought_to_the_target():
    """In the plane: the angle of a small update is proportional to the learning rate."""
    speed, scale = np.array([1e-4, 1e-2, 3e-3]), np.ones(3)
    control = LayerRotation(rate=1e-3)
    state, decision = control.decide(control.init(SPEC), Window.opening(SPEC))
    for index in range(1, 11):
        angle = np.arctan(speed * scale)
        state, decision = control.decide(state, measured(index, rotation=1 - np.cos(angle)))
        moved = known(decision.group_scale)[0]
        assert (np.abs(np.log(moved / scale)) <= math.log(MAX_MOVE) + 1e-12).all()
        scale = moved
    np.testing.assert_allclose(speed * scale, 1e-3, rtol=0.05)


@pytest.mark.parametrize("controller", [*BOTH, SigmoidBalance(), LayerRotation(rate=0.01)])
def test_what_is_not_measured_leaves_the_scales_as_they_are(controller):
    known = {"alpha": [2.0, 3.0, 4.0], "rotation": [1e-4, 1e-3, 1e-2]}
    nothing = {"alpha": [np.nan] * 3, "rotation": [np.nan] * 3}
    still = {"alpha": [np.inf] * 3, "rotation": [0.0] * 3}
    partly = {"alpha": [9.0, np.nan, 2.0], "rotation": [1e-2, np.nan, 1e-4]}
    lost = {"loss": np.array([np.inf]), "nonfinite": np.array([3])}
    windows = [measured(1, **known), measured(2, **nothing), measured(3), measured(4, **still, **lost)]
    _, scales = follow(controller, [*windows, measured(5, **partly)])
    assert (scales[0] != 1.0).any()
    np.testing.assert_array_equal(scales[1:4], [scales[0]] * 3)
    assert scales[4][0, 1] == scales[0][0, 1]
    assert (scales[4][0, [0, 2]] != scales[0][0, [0, 2]]).any()
    assert all(np.isfinite(scale).all() and (scale > 0).all() for scale in scales)


@pytest.mark.parametrize(
    "controller", [*BOTH, SigmoidBalance(), LayerRotation(Linear(), rate=0.02), Guard(TempBalance())]
)
def test_rows_are_single_runs(controller):
    random = np.random.default_rng(0)
    both = RunSpec.stack([SPEC, SPEC])
    alpha, rotation = random.uniform(2, 6, (6, 2, 3)), 10 ** random.uniform(-8, -1, (6, 2, 3))
    alpha[2, 0, 1] = rotation[3, 1, 2] = np.nan
    _, together = follow(controller, [measured(i, alpha[i], rotation[i], both) for i in range(6)], both)
    for row in range(2):
        _, alone = follow(controller, [measured(i, alpha[i, row], rotation[i, row]) for i in range(6)])
        np.testing.assert_allclose([scale[row] for scale in together], [scale[0] for scale in alone], rtol=1e-12)


@pytest.mark.parametrize("controller", BOTH)
def test_a_state_is_not_changed_by_deciding(controller):
    state, _ = follow(controller, [measured(1, [2.0, 3.0, 4.0], [1e-4, 1e-3, 1e-2])])
    kept = copy.deepcopy(state)
    after, _ = controller.decide(state, measured(2, [5.0, 3.0, 4.0], [1e-2, 1e-3, 1e-2]))
    assert (after["group_scale"] != state["group_scale"]).any()
    for name in ("group_scale", *(["lr_scale"] if "lr_scale" in kept else [])):
        np.testing.assert_array_equal(state[name], kept[name])
        assert after[name].shape == kept[name].shape


def test_scales_multiply_when_controllers_are_nested():
    window = measured(1, [2.0, 3.0, 4.0], 1 - np.cos([0.1, 0.2, 0.4]))
    _, nested = follow(TempBalance(LayerRotation()), [window])
    _, (balance,) = follow(TempBalance(), [window])
    _, (rotation,) = follow(LayerRotation(), [window])
    np.testing.assert_allclose(nested[0], balance * rotation)
    assert TempBalance(LayerRotation()).reads == GROUP_TELEMETRY


# Wrappers.


def test_a_guard_holds_the_last_scales_while_it_backs_off():
    guard = Guard(TempBalance(Constant()))
    alphas = [[2.0, 3.0, 4.0], [4.0, 3.0, 2.0], [2.0, 2.5, 4.0]]
    state, scales, rates = guard.init(SPEC), [], []
    for index, alpha in enumerate(alphas, 1):
        hit = index == 2
        window = measured(index, alpha, nonfinite=np.array([int(hit)]), loss=np.array([np.inf if hit else 1.0]))
        state, decision = guard.decide(state, window)
        decision.check(window)
        scales.append(known(decision.group_scale)[0].tolist())
        rates.append(decision.lr_scale[0, 0])
    assert scales == [[0.5, 1.0, 1.5], [0.5, 1.0, 1.5], [0.5, 0.75, 1.5]]
    assert rates[1] == pytest.approx(0.1)


def test_a_guard_holds_scales_of_the_runs_that_failed_alone():
    both = RunSpec.stack([SPEC, SPEC])
    guard = Guard(TempBalance(Constant()))
    state, _ = follow(guard, [measured(1, [[2.0, 3.0, 4.0]] * 2, spec=both)], both)
    window = measured(2, [[4.0, 3.0, 2.0]] * 2, spec=both, nonfinite=np.array([1, 0]))
    _, decision = guard.decide(state, window)
    assert known(decision.group_scale).tolist() == [[0.5, 1.0, 1.5], [1.5, 1.0, 0.5]]


class Sometimes:
    """Scales groups in its second decision, and then no more."""

    reads = frozenset[str]()

    def init(self, spec):
        return {}

    def decide(self, state, window):
        scale = np.array([[2.0, 3.0, 4.0]]) if window.decision[0] == 1 else None
        return state, Decision(np.ones((1, 100)), window.spec.bucket_shares, group_scale=scale)


def test_a_guard_holds_the_scales_of_a_controller_that_then_gives_none():
    _, scales = follow(
        Guard(Sometimes()), [Window.opening(SPEC), measured(1), measured(2, nonfinite=np.array([1]))]
    )
    assert scales[0] is None
    assert scales[2].tolist() == [[2.0, 3.0, 4.0]]
    _, scales = follow(Guard(Sometimes()), [measured(1), measured(2), measured(3, nonfinite=np.array([1]))])
    assert scales[1:] == [None, None]


def test_a_guard_of_a_controller_without_scales_sets_none():
    _, scales = follow(Guard(Linear()), [measured(1), measured(2, nonfinite=np.array([1])), measured(3)])
    assert scales == [None] * 3


def test_a_fixed_curriculum_passes_scales_on():
    curriculum = FixedCurriculum(TempBalance(), Curriculum("lean", (0.0, 1.0), (0.0, 1.0)))
    spec = RunSpec.single(100, 10, [0.1, 0.2, 0.4], adaptive=False, bucket_shares=[0.5, 0.5], group_rates=True)
    _, scales = follow(curriculum, [measured(1, [2.0, 3.0, 6.0], spec=spec)], spec)
    assert scales[0].tolist() == [[0.5, 0.75, 1.5]]


# In a user's run.


class Watched:
    """A controller, and what it was told and decided."""

    def __init__(self, controller):
        self.controller, self.reads = controller, controller.reads
        self.windows, self.decisions = [], []
        self.init = controller.init

    def decide(self, state, window):
        state, decision = self.controller.decide(state, window)
        self.windows.append(window)
        self.decisions.append(decision)
        return state, decision


class ThreeLayers:
    """A small regression with a parameter group for each of three layers."""

    def __init__(self, controller, lrs=(0.02, 0.05, 0.01), steps=60, seed=0, **settings):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = [nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)]
        self.model = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
        groups = [{"params": list(m.parameters()), "lr": lr} for m, lr in zip(layers, lrs, strict=True)]
        self.optimizer = torch.optim.SGD(groups, lr=0.1)
        self.scheduler = RLScheduler(self.optimizer, steps, controller=controller, **settings)
        self.rates = []

    def train(self, steps, losses=None):
        for step in range(self.scheduler.last_epoch, self.scheduler.last_epoch + steps):
            x = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
            loss = (self.model(x) - x[:, :4].sin()).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.rates.append([group["lr"] for group in self.optimizer.param_groups])
            self.optimizer.step()
            self.scheduler.step(loss if losses is None else losses(step, loss))
        return self


@pytest.mark.parametrize("make", [TempBalance, LayerRotation])
def test_every_step_has_base_rate_times_schedule_times_group(make):
    watched = Watched(make(Linear()))
    run = ThreeLayers(watched).train(60)
    base, at = [0.02, 0.05, 0.01], 0
    seen = np.array([decision.group_scale[0] for decision in watched.decisions])
    assert len(np.unique(seen)) > 5, "scales move"
    for window, decision in zip(watched.windows, watched.decisions, strict=True):
        for offset in range(int(window.steps_ahead[0])):
            expected = [
                lr * decision.lr_scale[0, offset] * g for lr, g in zip(base, decision.group_scale[0], strict=True)
            ]
            assert run.rates[at] == pytest.approx(expected, rel=1e-12)
            at += 1
    assert at == 60
    history = run.scheduler.history()
    np.testing.assert_array_equal(history["group_scale"], seen)
    np.testing.assert_allclose(history["lr"], history["lr_scale"][:, None] * seen * base, rtol=1e-12)
    assert run.scheduler.get_last_lr() == [group["lr"] for group in run.optimizer.param_groups]


def test_without_scales_history_says_one():
    run = ThreeLayers(Linear()).train(10)
    np.testing.assert_array_equal(run.scheduler.history()["group_scale"], 1.0)


@pytest.mark.parametrize("make", [TempBalance, SigmoidBalance, LayerRotation, lambda: LayerRotation(rate=0.01)])
@pytest.mark.parametrize("stop", [1, 26, 27])
def test_a_run_goes_on_from_a_checkpoint_in_the_middle_of_a_window(make, stop):
    straight = ThreeLayers(make()).train(60)
    first = ThreeLayers(make()).train(stop)
    assert stop == 1 or stop not in first.scheduler.history()["step"]
    file = io.BytesIO()
    torch.save([first.model.state_dict(), first.optimizer.state_dict(), first.scheduler.state_dict()], file)
    file.seek(0)
    model, optimizer, scheduler = torch.load(file, weights_only=True)
    twin = ThreeLayers(make(), lrs=(0.5, 0.5, 0.5), seed=1, steps=31)
    twin.model.load_state_dict(model)
    twin.optimizer.load_state_dict(optimizer)
    twin.scheduler.load_state_dict(scheduler)
    twin.train(60 - stop)
    assert first.rates + twin.rates == straight.rates
    for name, rows in straight.scheduler.history().items():
        np.testing.assert_array_equal(twin.scheduler.history()[name], rows, err_msg=name)


def test_a_guarded_run_keeps_its_scales_when_a_loss_fails():
    run = ThreeLayers(TempBalance(Constant()))
    with pytest.warns(UserWarning, match="is not finite"):
        run.train(40, lambda step, loss: math.nan if step == 30 else loss)
    ratios = np.array(run.rates) / [0.02, 0.05, 0.01]
    np.testing.assert_allclose(ratios[31], 0.1 * ratios[30], rtol=1e-12)
    assert np.ptp(ratios[30]) > 0.5


def test_groups_that_join_are_scaled_from_the_next_extension_on():
    run = ThreeLayers(LayerRotation()).train(30)
    joined = random(6, 6)
    run.optimizer.add_param_group({"params": [joined], "lr": 0.3})
    run.train(1)
    assert run.optimizer.param_groups[3]["lr"] == 0.3
    run.scheduler.extend(80)
    for _ in range(10):
        joined.grad = random(6, 6, seed=1).detach()
        run.optimizer.step()
        run.scheduler.step(torch.ones(()))
    assert run.optimizer.param_groups[3]["lr"] != 0.3
    twin = ThreeLayers(LayerRotation())
    twin.optimizer.add_param_group({"params": [random(6, 6)], "lr": 0.3})
    twin.scheduler.load_state_dict(run.scheduler.state_dict())
    assert [g["lr"] for g in twin.optimizer.param_groups] == [g["lr"] for g in run.optimizer.param_groups]
    assert np.isnan(run.scheduler.history()["group_scale"][0, 3])


def test_a_group_that_joins_is_not_scaled_until_the_spec_knows_it():
    assert fit_groups(np.array([[2.0, 3.0]]), 3).tolist() == [[2.0, 3.0, 1.0]]
    run = ThreeLayers(TempBalance(Constant())).train(30)
    run.optimizer.add_param_group({"params": [random(6, 6)], "lr": 0.3})
    run.train(20)
    assert run.optimizer.param_groups[3]["lr"] == 0.3
    assert run.scheduler.history()["group_scale"][-1, 3] == 1.0


def test_rates_in_tensors_are_scaled_in_place():
    weights = [random(4, 4, seed=seed) for seed in range(2)]
    rates = [torch.tensor(0.1), torch.tensor(0.2)]
    groups = [{"params": [w], "lr": lr} for w, lr in zip(weights, rates, strict=True)]
    scheduler = RLScheduler(torch.optim.SGD(groups, lr=0.1), 40, controller=TempBalance(Constant()))
    for _ in range(10):
        for weight in weights:
            weight.grad = torch.ones(4, 4)
        scheduler.optimizer.step()
        scheduler.step(torch.ones(()))
    assert sorted(float(lr) / base for lr, base in zip(rates, (0.1, 0.2), strict=True)) == pytest.approx(
        [0.5, 1.5]
    )


@pytest.mark.parametrize("lrs", [(1e-4, 1e-3, 1e-2), (1e-2, 1e-2, 1e-4)])
def test_layers_whose_base_rates_differ_by_a_hundred_turn_alike(lrs):
    watched = Watched(LayerRotation())
    ThreeLayers(watched, lrs=lrs, steps=400).train(400)
    turned = np.array([np.sqrt(2 * w.group_rotation[0]) for w in watched.windows if w.group_rotation is not None])
    assert turned[0].max() / turned[0].min() > 25.0
    assert (turned[-5:].max(axis=1) / turned[-5:].min(axis=1)).max() < 1.3


def test_a_rate_makes_the_base_rates_irrelevant():
    angles = []
    for lrs in ((1e-3, 1e-2, 3e-2), (0.05, 0.01, 2e-3)):
        watched = Watched(LayerRotation(rate=2e-3))
        ThreeLayers(watched, lrs=lrs, steps=400).train(400)
        angles.append(np.sqrt(2 * np.array([w.group_rotation[0] for w in watched.windows[-8:]])).mean(axis=0))
    np.testing.assert_allclose(angles[0], angles[1], rtol=0.02)
    # Gradients fall, and the scales follow.
    np.testing.assert_allclose(angles, 2e-3, rtol=0.25)


# What is refused.

NOT_ONE: Any = Linear


def digits(num_steps=40):
    return Digits().build(
        DigitsConfig(
            data_seed=1, num_steps=num_steps, num_decisions=8, batch_size=16, optimizer="sgd", base_lr=0.1
        )
    )


@pytest.mark.parametrize("controller", [*BOTH, SigmoidBalance(), Guard(TempBalance())])
def test_engines_with_one_learning_rate_refuse(controller):
    words = "needs a host that measures and scales each parameter group .* use it in an RLScheduler"
    population = Population([digits()])
    population.reset([0])
    with pytest.raises(ValueError, match=words):
        drive(population, controller)
    run = TorchRun(digits())
    run.reset(0)
    with pytest.raises(ValueError, match=words):
        drive(EagerBlock([run]), controller)


def test_a_controller_of_ones_own_is_refused_at_the_decision():
    population = Population([digits()])
    population.reset([0])

    class Doubles(Constant):
        def decide(self, state, window):
            state, decision = super().decide(state, window)
            return state, decision.scale_groups(np.full(window.spec.base_lr.shape, 2.0))

    with pytest.raises(ValueError, match=r"Decision\.group_scale needs a host"):
        drive(population, Doubles())


def test_a_block_of_loops_refuses_loops_that_expect_scales():
    run = TorchRun(digits(), group_rates=True)
    run.reset(0)
    with pytest.raises(ValueError, match="without group_rates=True: a block cannot"):
        EagerBlock([run])


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (np.ones((1, 2)), r"must have shape \(1, 3\), got \(1, 2\): one multiplier for each parameter group"),
        (np.ones(3), r"must have shape \(1, 3\), got \(3,\)"),
        (np.array([[1.0, np.nan, 1.0]]), "must be finite and >= 0"),
        (np.array([[1.0, -1.0, 1.0]]), "must be finite and >= 0"),
    ],
)
def test_wrong_scales_are_refused(scale, words):
    class Wrong(Constant):
        def decide(self, state, window):
            state, decision = super().decide(state, window)
            return state, dataclasses.replace(decision, group_scale=scale)

    with pytest.raises(ValueError, match=words):
        ThreeLayers(Wrong())


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: TempBalance(NOT_ONE), TypeError, "controller must be a Controller"),
        (lambda: LayerRotation(NOT_ONE), TypeError, "controller must be a Controller"),
        (lambda: TempBalance(low=1.5), ValueError, r"low must be a finite number in \[0.0, 1.0\], got 1.5"),
        (lambda: TempBalance(high=0.5), ValueError, "high must be a finite number"),
        (lambda: TempBalance(leave_out=(-1,)), ValueError, "leave_out must be an integer >= 0, got -1"),
        (lambda: SigmoidBalance(strength=9.0), ValueError, "strength must be"),
        (lambda: SigmoidBalance(steepness=math.nan), ValueError, "steepness must be"),
        (lambda: LayerRotation(rate=0.0), ValueError, "rate must be"),
        (lambda: LayerRotation(gain=1.5), ValueError, "gain must be"),
        (lambda: LayerRotation(max_scale=0.1), ValueError, "max_scale must be"),
        (
            lambda: ThreeLayers(TempBalance(leave_out=(3,))),
            ValueError,
            "indices of the optimizer's 3 parameter groups",
        ),
    ],
)
def test_bad_settings_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


# The eager loop of the environment.


def three_groups(model):
    layers = [list(m.parameters()) for m in model.modules() if isinstance(m, nn.Linear)]
    return torch.optim.SGD([{"params": each, "lr": 0.01 * (1 + i)} for i, each in enumerate(layers)], lr=0.01)


def test_an_eager_loop_scales_groups_and_measures_them_if_told_so():
    task = dataclasses.replace(digits(), make_optimizer=three_groups)
    run = TorchRun(task, GROUP_TELEMETRY, group_rates=True)
    run.reset(0)
    groups = run.spec.num_groups
    assert groups > 1
    controller = TempBalance(Constant())
    state, window = controller.init(run.spec), Window.opening(run.spec)
    for _ in range(3):
        state, decision = controller.decide(state, window)
        decision.check(window)
        scale = known(decision.group_scale)[0]
        window = run.advance(int(window.steps_ahead[0]), decision.lr_scale[0], decision.bucket_weights[0], scale)
        rates = [group["lr"] for group in run.optimizer.param_groups]
        assert rates == pytest.approx([0.01 * (1 + i) * scale[i] for i in range(groups)])
        assert np.isfinite(known(window.group_alpha)).all()
        assert (known(window.group_rotation) > 0).all()
    assert np.ptp(scale) > 0.9


def test_by_default_an_eager_loop_measures_no_groups():
    run = TorchRun(digits())
    run.reset(0)
    window = run.advance(2, np.ones(2), run.spec.bucket_shares[0])
    assert window.group_alpha is None
    assert window.group_rotation is None
    assert all(
        np.isfinite(getattr(window, name)).all() for name in RUN_TELEMETRY - {"validation_loss", "bucket_loss"}
    )


def test_balancing_moves_no_group_by_more_than_the_limit_and_their_mean_not_at_all():
    for gain in (0.5, 1.0):
        factors = LayerRotation(gain=gain).factors(np.array([[1e-4] + [0.1] * 9]), np.array([[np.nan]]))
        assert factors.max() == pytest.approx(MAX_MOVE)
        assert np.log(factors).sum() == pytest.approx(0.0, abs=1e-12)
