"""Controllers that go by gradients: decisions by hand, the papers' own recursions, and quadratics."""

import numpy as np
import pytest

from rlsched import Constant, RunSpec
from rlsched.controllers.closed_loop import GradientSNR, Hypergradient, PolyakMomentum
from rlsched.envs import TorchRun
from rlsched.envs.drive import drive
from rlsched.envs.population.eager_block import EagerBlock
from rlsched.envs.tasks import Quadratics, QuadraticsConfig
from rlsched.envs.tasks.quadratics import excess_risks, greedy_lrs
from tests.closed_loops import descend, scales

RUN = RunSpec.single(400, 300, 0.5, adaptive=False)
CURVATURE = np.geomspace(1.0, 0.2, 8)


def test_the_multiplicative_rule_by_hand():
    found = scales(Hypergradient(rate=0.5, bound=2.0), RUN, grad_agreement=[0.4, np.nan, -1.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(found, [1.2, 1.2, 0.6, 0.9, 1.35, 2.0])


def test_the_additive_rule_by_hand():
    """lr 0.5; windows of one step have the product of two norms, the first of which only knows its own."""
    measured = {"grad_agreement": [0.5, -0.5, np.nan, 1.0], "grad_norm": [2.0, 1.0, 3.0, 1.0]}
    found = scales(Hypergradient("additive", rate=0.1), RUN, **measured)
    lr = 0.5 + np.cumsum([0.1 * 0.5 * 4.0, -0.1 * 0.5 * 1.0 * 2.0, 0.0, 0.1 * 1.0 * 3.0])
    np.testing.assert_allclose(0.5 * np.array(found), lr)


def test_deciding_at_every_step_the_additive_rule_is_the_papers():
    rate, lr, steps = 0.02, 0.1, 60
    w, before, expected = np.ones(8), None, []
    for _ in range(steps):
        gradient = CURVATURE * w
        # The paper's update of the learning rate takes effect in the same step; a controller's, in the next.
        expected.append(lr)
        w = w - lr * gradient
        lr += 0.0 if before is None else rate * float(gradient @ before)
        before = gradient
    _, found = descend(Hypergradient("additive", rate), 0.1, CURVATURE, steps=steps, decisions=steps - 1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert expected[-1] > 1.2 * expected[0]


@pytest.mark.parametrize("controller", [Hypergradient(), Hypergradient("additive", rate=0.002)], ids=["x", "+"])
def test_hypergradients_raise_a_rate_that_is_too_low_and_lower_one_that_is_too_high(controller):
    """Of curvatures up to 1, rates above 2 diverge."""
    losses, rates = descend(controller, 0.005, CURVATURE)
    constant, _ = descend(Constant(), 0.005, CURVATURE)
    assert rates[-1] > 3 * rates[0]
    assert losses[-1] < 0.5 * constant[-1]

    losses, rates = descend(controller, 2.2, CURVATURE)
    constant, _ = descend(Constant(), 2.2, CURVATURE)
    assert constant[-1] > 1e6 * constant[0]
    assert losses[-1] < 1e-6 * losses[0]
    assert rates.min() < 2.0


def test_the_share_is_averaged_over_windows_and_bounded():
    """The average of 1 and 0 with a memory of 3/4, and so on; nothing is known before the first."""
    controller = GradientSNR(memory=0.75, floor=0.1)
    found = scales(controller, RUN, grad_agreement=[np.nan, 1.0, 0.0, np.nan, -1.0, -1.0])
    np.testing.assert_allclose(found, [1.0, 1.0, 0.75, 0.75, 0.3125, 0.1])


@pytest.mark.parametrize("snr", [0.1, 1.0, 5.0])
def test_the_cosine_of_independent_gradients_gives_the_rate_the_formula_wants(snr):
    """Gradients G + noise in 2,000 dimensions, with |G|^2 = snr tr(S) / B."""
    rng = np.random.default_rng(0)
    mean = np.full(2000, np.sqrt(snr))
    gradients = mean + rng.standard_normal((40, 2000))
    unit = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    cosines = (unit[1:] * unit[:-1]).sum(axis=1)
    found = scales(GradientSNR(memory=0.9), RUN, grad_agreement=cosines.tolist())
    assert found[-1] == pytest.approx(snr / (1.0 + snr), abs=0.02)


def test_the_rate_from_noise_is_near_the_best_schedule_where_that_is_known():
    """With equal curvatures the best learning rate is SNR / (1 + SNR) at every step; see `Quadratics`.

    At half of it the risk falls 3/4 as fast, in the limit: that is what the cosine's bias costs.
    """
    config = QuadraticsConfig(
        data_seed=0, num_steps=250, num_decisions=20, batch_size=4, curriculum=False, dimensions=150, noise=3.0,
        base_lr=1.0,
    )  # fmt: skip
    run = TorchRun(Quadratics().build(config), GradientSNR().reads)
    run.reset(0)
    found = float(drive(EagerBlock([run]), GradientSNR())[0])
    fall = 1.0 - np.arange(config.num_steps) / config.num_steps
    schedules = (greedy_lrs(config), fall, np.ones(config.num_steps))
    best, linear, constant = (excess_risks(config, lrs)[-1] for lrs in schedules)
    assert found < 3.0 * best
    assert found < 0.5 * linear
    assert found < 0.02 * constant


def test_the_share_settles_between_half_of_the_formulas_value_and_the_whole():
    """What consecutive gradients show is the share s less lr L: the fixed point of lr = s - lr is s / 2."""
    share, scale = 0.6, 1.0
    controller, seen = GradientSNR(memory=0.5), []
    for _ in range(30):
        seen.append(share - scale)
        scale = scales(controller, RUN, grad_agreement=seen)[-1]
    assert scale == pytest.approx(share / 2, abs=1e-3)


def test_polyak_by_hand():
    controller = PolyakMomentum(momentum=0.0, lower_bound=0.2, c=2.0, max_lr=3.0)
    found = scales(
        controller, RUN, loss=[1.0, 1.0, 0.1, 5.0, np.inf, 1.0], loss_slope=[0.0] * 6,
        grad_norm=[1.0, 2.0, 1.0, 1.0, 1.0, np.nan], grad_agreement=[0.0] * 6,
    )  # fmt: skip
    # (f - 0.2) / (2 |g|^2): 0.4, 0.1, no step due, 2.4 but at most twice the 0.1, and two windows not measured
    np.testing.assert_allclose(0.5 * np.array(found), [0.4, 0.1, 0.5e-6, 0.2, 0.2, 0.2])


def test_the_loss_is_taken_at_the_windows_end():
    """A loss that falls by e over a window of mean 1 ends at about exp(-1/2)."""
    (found,) = scales(
        PolyakMomentum(0.0, max_lr=1.0), RUN, loss=[1.0], loss_slope=[-1.0], grad_norm=[2.0], grad_agreement=[0.0]
    )
    assert 0.5 * found == pytest.approx(np.exp(-0.5) / 4)


@pytest.mark.parametrize(("signal", "noise"), [(1.0, 0.0), (1.0, 1.0), (0.3, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_the_length_of_the_direction_is_that_of_simulated_momentum(signal, noise, momentum):
    rng, steps = np.random.default_rng(1), 300
    gradients = signal + noise * rng.standard_normal((steps, 3000))
    direction = np.zeros(3000)
    for gradient in gradients:
        direction = momentum * direction + gradient
    agreement = signal**2 / (signal**2 + noise**2)
    norm = float(np.sqrt((gradients**2).sum(axis=1).mean()))
    measured = {"loss": [1.0], "loss_slope": [0.0], "grad_norm": [norm], "grad_agreement": [agreement]}
    # The run is late enough for the sum of gradients to have settled.
    late = RunSpec.single(steps, 1, 0.5, adaptive=False)
    (found,) = scales(PolyakMomentum(momentum), late, **measured)
    assert 0.5 * found == pytest.approx(1.0 / float(direction @ direction), rel=0.1)


def test_gradients_that_alternate_make_a_short_direction():
    direction = sum((-0.9) ** i for i in range(300))
    late = RunSpec.single(300, 1, 0.5, adaptive=False)
    measured = {"loss": [1.0], "loss_slope": [0.0], "grad_norm": [2.0], "grad_agreement": [-1.0]}
    (found,) = scales(PolyakMomentum(max_lr=1.0), late, **measured)
    assert 0.5 * found == pytest.approx(1.0 / (2.0 * direction) ** 2)


def test_deciding_at_every_step_it_is_polyaks_own_step_size():
    losses, rates = descend(PolyakMomentum(0.0, growth=None, max_lr=100.0), 0.1, CURVATURE, steps=40, decisions=39)
    w, expected = np.ones(8), [0.1]
    for step in range(39):
        gradient = CURVATURE * w
        assert losses[step] == pytest.approx(0.5 * float((CURVATURE * w**2).sum()))
        w = w - expected[-1] * gradient
        # What is known when the next step is due is the loss and gradient of the one before.
        expected.append(0.5 * float(CURVATURE @ (w + expected[-1] * gradient) ** 2) / float(gradient @ gradient))
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("misjudged", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("decisions", [20, 199])
def test_polyak_converges_from_a_base_rate_misjudged_by_a_hundred(momentum, misjudged, decisions):
    """Convex quadratics of condition 5; 2 is the largest constant rate that converges without momentum."""
    losses, rates = descend(
        PolyakMomentum(momentum, max_lr=1.0),
        misjudged,
        CURVATURE,
        momentum=momentum,
        steps=300,
        decisions=decisions,
    )
    assert losses[-1] < 1e-3 * losses[0]
    # Corrected at once: one gradient is known, and the next direction is at most 1 + momentum times as long.
    assert rates[1] == pytest.approx(losses[0] / float(CURVATURE @ CURVATURE) / (1.0 + momentum) ** 2)
    if misjudged == 100.0:
        constant, _ = descend(Constant(), misjudged, CURVATURE, momentum=momentum, steps=20, decisions=10)
        assert constant[-1] > 1e6 * constant[0]


def test_a_step_that_has_become_too_long_is_shortened():
    """Without a cap in the way, flat directions ask for rates that steep ones cannot take."""
    steep = np.geomspace(1.0, 0.1, 10)
    losses, rates = descend(PolyakMomentum(0.0, max_lr=1e3), 1.0, steep, steps=200, decisions=20)
    assert rates.max() > 2.0
    assert losses[-1] < 1e-6 * losses[0]
