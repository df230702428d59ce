"""FedHyper in a small simulated federation: clients with quadratics of their own, a server that averages."""

from dataclasses import dataclass

import numpy as np
import pytest

from rlsched import Constant, RLScheduler, RunSpec, Window
from rlsched.contract import Controller
from rlsched.controllers.closed_loop import ClientWindow, FedHyperGlobal, FedHyperLocal
from rlsched.telemetry import summarise
from tests.closed_loops import scales
from tests.loops import start, train

CLIENTS, DIMENSIONS, LOCAL_STEPS = 4, 6, 5


@dataclass
class Host:
    """Runs under a controller that decides at every step; the federation measures for it."""

    controller: Controller
    spec: RunSpec

    def __post_init__(self):
        self.state, self.window = self.controller.init(self.spec), Window.opening(self.spec)
        self.before = np.full((self.spec.num_runs, DIMENSIONS), np.nan)

    def lr(self):
        """(R,) for the coming step."""
        self.state, decision = self.controller.decide(self.state, self.window)
        decision.check(self.window)
        return self.spec.base_lr[:, 0] * decision.lr_scale[:, 0]

    def saw(self, gradients, global_update=None):
        """The step's gradients (R, d), and the global update (d,) as clients know it."""
        norm = np.linalg.norm(gradients, axis=1)
        cosine = (gradients * self.before).sum(axis=1) / norm / np.linalg.norm(self.before, axis=1)
        none = np.full((self.spec.num_runs, 1), np.nan)
        self.window = summarise(
            self.spec, self.window.step + 1, self.window.decision + 1, losses=none, grad_norms=norm[:, None],
            update_ratios=none, grad_agreements=cosine[:, None], bucket_loss=none, validation_loss=none[:, 0],
        )  # fmt: skip
        if global_update is not None:
            self.window = ClientWindow.of(self.window, gradients @ global_update / LOCAL_STEPS)
        self.before = gradients


class Federation:
    """Clients minimise 1/2 sum_i h_i (w_i - a_i)^2 with their own h and a; w begins at 0."""

    def __init__(self, seed=0, distance=1.0):
        rng = np.random.default_rng(seed)
        self.curvature = rng.uniform(0.2, 1.0, (CLIENTS, DIMENSIONS))
        self.optimum = distance * (1.0 + 0.1 * rng.standard_normal((CLIENTS, DIMENSIONS)))
        best = (self.curvature * self.optimum).sum(axis=0) / self.curvature.sum(axis=0)
        self.least = self.mean_loss(best)

    def mean_loss(self, w):
        return 0.5 * float((self.curvature * (w - self.optimum) ** 2).sum(axis=1).mean())

    def train(self, server, clients, rounds=25, server_lr=1.0, client_lr=0.05, with_global=True):
        """Excess losses (rounds + 1,), learning rates of the server (rounds,) and of the clients (steps, M)."""
        total = rounds * LOCAL_STEPS
        spec = RunSpec.single(rounds, rounds - 1, server_lr, adaptive=False)
        above = Host(server, spec)
        one = RunSpec.single(total, total - 1, client_lr, adaptive=False)
        below = Host(clients, RunSpec.stack([one] * CLIENTS))
        w, update, self.updates = np.zeros(DIMENSIONS), None, []
        excess, rates, local_rates = [self.mean_loss(w) - self.least], [], []
        for _ in range(rounds):
            local = np.tile(w, (CLIENTS, 1))
            for _ in range(LOCAL_STEPS):
                gradients = self.curvature * (local - self.optimum)
                local_rates.append(below.lr())
                local = local - local_rates[-1][:, None] * gradients
                below.saw(gradients, update if with_global else None)
            rates.append(float(above.lr()[0]))
            update = w - local.mean(axis=0)
            self.updates.append(update)
            w = w - rates[-1] * update
            above.saw(update[None])
            excess.append(self.mean_loss(w) - self.least)
        return np.array(excess), np.array(rates), np.array(local_rates)


def test_deciding_at_every_round_it_is_the_papers_recursion():
    federation = Federation()
    _, rates, _ = federation.train(FedHyperGlobal(rate=2.0, bound=2.5), Constant())
    alpha, expected = 1.0, [1.0, 1.0]
    for before, update in zip(federation.updates, federation.updates[1:-1], strict=False):
        alpha = float(np.clip(alpha + 2.0 * update @ before, 1 / 2.5, 2.5))
        expected.append(alpha)
    np.testing.assert_allclose(rates, expected)
    assert len(set(expected)) > 4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_global_form_makes_up_for_rates_that_are_too_low(seed):
    federation = Federation(seed, distance=10.0)
    fixed, _, _ = federation.train(Constant(), Constant(), client_lr=0.02)
    adapted, rates, _ = federation.train(FedHyperGlobal(), Constant(), client_lr=0.02)
    assert rates[-1] > 1.5
    assert adapted[-1] < 0.3 * fixed[-1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_global_form_slows_a_server_that_oversteps(seed):
    """Updates of clients that train almost to their optimum, times a server rate above 2, diverge."""
    federation = Federation(seed, distance=0.3)
    fixed, _, _ = federation.train(Constant(), Constant(), server_lr=2.5, client_lr=0.8)
    adapted, rates, _ = federation.train(FedHyperGlobal(), Constant(), server_lr=2.5, client_lr=0.8)
    assert fixed[-1] > 10.0 * fixed[0]
    assert rates[-1] < 2.0
    assert adapted[-1] < 0.1 * adapted[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_local_form_makes_up_for_rates_that_are_too_low(seed):
    federation = Federation(seed)
    fixed, _, _ = federation.train(Constant(), Constant(), client_lr=0.02)
    adapted, _, local = federation.train(Constant(), FedHyperLocal(rate=0.01), client_lr=0.02)
    assert (local[-1] > 1.5 * local[0]).all()
    assert local.max() <= 10.0 * 0.02 + 1e-12
    assert adapted[-1] < 0.3 * fixed[-1]


def test_a_client_that_moves_against_the_others_does_not_speed_up():
    federation = Federation()
    federation.optimum[0] = -1.0
    _, _, local = federation.train(Constant(), FedHyperLocal(rate=0.01))
    _, _, alone = federation.train(Constant(), FedHyperLocal(rate=0.01), with_global=False)
    moved, without = local[15] - local[0], alone[15] - alone[0]
    assert moved[0] < without[0]
    assert (moved[1:] > without[1:]).all()


def test_the_local_rule_by_hand():
    run = RunSpec.single(20, 19, 0.5, adaptive=False)
    controller, found = FedHyperLocal(), []
    state = controller.init(run)
    for cosine, norm, product in [(0.5, 1.0, 0.25), (np.nan, 1.0, -0.5), (np.nan, 2.0, np.nan), (-1.0, 2.0, 9.0)]:
        window = Window.opening(run).replace(grad_agreement=np.array([cosine]), grad_norm=np.array([norm]))
        state, decision = controller.decide(state, ClientWindow.of(window, np.array([product])))
        found.append(0.5 * float(decision.lr_scale[0, 0]))
    # 0.5 + 0.5 + 0.25; less 0.5; nothing measured; -4 + 9 more, but at most ten times the base
    assert found == pytest.approx([1.25, 0.75, 0.75, 5.0])


def test_the_bounds_are_multiples_of_the_base_rate():
    run = RunSpec.single(20, 19, 2.0, adaptive=False)
    measured = {"grad_agreement": [1.0, -1.0], "grad_norm": [100.0, 100.0]}
    np.testing.assert_allclose(scales(FedHyperGlobal(), run, **measured), [3.0, 1 / 3])
    np.testing.assert_allclose(scales(FedHyperLocal(), run, **measured), [10.0, 0.1])


def test_a_scheduler_can_host_a_client():
    model, optimizer = start(lr=0.01, momentum=0.0)
    scheduler = RLScheduler(optimizer, 60, controller=FedHyperLocal(rate=1e-3), num_decisions=20)
    rates = train(model, optimizer, scheduler, 60)
    assert max(rates) > rates[0]
