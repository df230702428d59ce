"""Open-loop schedules against those of torch, transformers and pytorch_optimizer, step by step over whole runs."""

import numpy as np
import pytest
import torch
from pytorch_optimizer import REXScheduler
from pytorch_optimizer.lr_scheduler import get_wsd_schedule
from torch.optim import lr_scheduler

from rlsched.controllers.schedules import (
    REX,
    WSD,
    Between,
    Constant,
    Cosine,
    Cyclical,
    InverseSqrt,
    Linear,
    MultiplicativeCycles,
    OneCycle,
    OpenLoop,
    Polynomial,
    StepDecay,
    Warmup,
)

LR = 0.4


def sgd():
    return torch.optim.SGD([torch.zeros(1)], lr=LR, momentum=0.9)


def trajectory(make, num_steps, name="lr"):
    """What the scheduler that `make` makes sets at each step, and after the last."""
    optimizer = sgd()
    scheduler = make(optimizer)
    values = [optimizer.param_groups[0][name]]
    for _ in range(num_steps):
        optimizer.step()
        scheduler.step()
        values.append(optimizer.param_groups[0][name])
    return np.array(values)


def agrees(schedule: OpenLoop, make, num_steps, last=True, atol=1e-9):
    steps = np.arange(num_steps + last)
    expected = trajectory(make, num_steps)[: len(steps)]
    np.testing.assert_allclose(LR * schedule.profile(steps / num_steps), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("num_steps", [7, 100, 383])
def test_cosine_with_a_floor_is_torchs(num_steps):
    def make(optimizer):
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=num_steps, eta_min=0.1 * LR)

    agrees(Cosine(0.1), make, num_steps)


# The product of t / T and T falls just short of t at many a step: none may be late.
@pytest.mark.parametrize("num_steps", [10, 29, 100, 300, 1000])
def test_drops_come_at_the_same_step_as_torchs(num_steps):
    first, second = int(0.58 * num_steps), int(0.9 * num_steps)

    def multi(optimizer):
        return lr_scheduler.MultiStepLR(optimizer, [first, second], gamma=0.3)

    def even(optimizer):
        return lr_scheduler.StepLR(optimizer, interval, gamma=0.5)

    agrees(StepDecay((first / num_steps, second / num_steps), 0.3), multi, num_steps)
    for interval in {1, 3, num_steps // 3}:
        agrees(StepDecay.every(interval / num_steps, 0.5), even, num_steps, last=False)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_polynomial_decay_is_torchs(power):
    agrees(Polynomial(power), lambda o: lr_scheduler.PolynomialLR(o, 60, power), 60)


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("rise", [0.25, 0.4])
def test_one_cycle_is_torchs_and_so_is_its_momentum(anneal, three_phase, rise):
    num_steps = 80

    # torch's last step is at the last level, and its phases end a step early: at these the two coincide.
    def make(optimizer):
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=LR,
            total_steps=num_steps + 1,
            pct_start=(rise * num_steps + 1) / (num_steps + 1),
            anneal_strategy=anneal[:3] if anneal == "cosine" else anneal,
            div_factor=10.0,
            final_div_factor=100.0,
            three_phase=three_phase,
        )

    agrees(OneCycle(rise, 0.1, 0.001, anneal, three_phase), make, num_steps)
    momentum = Between(OneCycle(rise, 0.0, 0.0, anneal, three_phase), 0.85, 0.95)
    found = [momentum.at(step, num_steps) for step in range(num_steps + 1)]
    np.testing.assert_allclose(found, trajectory(make, num_steps, "momentum"), rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
@pytest.mark.parametrize("up", [5, 10, 16])
def test_cycles_are_torchs(mode, up):
    num_steps, gamma = 60, 0.98

    def make(optimizer):
        return lr_scheduler.CyclicLR(
            optimizer, 0.25 * LR, LR, up, 20 - up, mode=mode, gamma=gamma, cycle_momentum=False
        )

    agrees(Cyclical(3, 0.25, mode, decay=gamma**num_steps, rise=up / 20), make, num_steps)


@pytest.mark.parametrize(("cycles", "factor"), [(4, 2), (3, 3), (5, 1)])
def test_cosines_that_grow_by_a_factor_are_torchs_warm_restarts(cycles, factor):
    num_steps = 6 * sum(factor**i for i in range(cycles))

    def make(optimizer):
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 6, T_mult=factor)

    agrees(MultiplicativeCycles(cycles, float(factor)), make, num_steps, last=False)


# transformers. Its schedules after a warm-up are over the rest of the run.


@pytest.fixture(scope="module")
def optimization():
    return pytest.importorskip("transformers.optimization")


@pytest.mark.parametrize(("num_steps", "warmup"), [(50, 5), (230, 31)])
def test_warmed_up_schedules_are_those_of_transformers(optimization, num_steps, warmup):
    def warm(schedule):
        return Warmup(schedule, warmup / num_steps, rest=True)

    def of(name, **arguments):
        return lambda o: getattr(optimization, name)(
            o, num_warmup_steps=warmup, **{"num_training_steps": num_steps} | arguments
        )

    agrees(warm(Cosine()), of("get_cosine_schedule_with_warmup"), num_steps)
    agrees(warm(Linear()), of("get_linear_schedule_with_warmup"), num_steps)
    polynomial = of("get_polynomial_decay_schedule_with_warmup", power=2.0, lr_end=0.1 * LR)
    agrees(warm(Polynomial(2.0, 0.1)), polynomial, num_steps)
    restarts = of("get_cosine_with_hard_restarts_schedule_with_warmup", num_cycles=3)
    agrees(warm(MultiplicativeCycles(3, 1.0)), restarts, num_steps, last=False)
    floor = of("get_cosine_with_min_lr_schedule_with_warmup", min_lr_rate=0.1)
    agrees(warm(Cosine(0.1)), floor, num_steps)


@pytest.mark.parametrize(("num_steps", "warmup"), [(50, 5), (230, 31)])
def test_schedules_of_transformers_that_need_no_horizon(optimization, num_steps, warmup):
    def sqrt(optimizer):
        return optimization.get_inverse_sqrt_schedule(optimizer, warmup)

    def constant(optimizer):
        return optimization.get_constant_schedule_with_warmup(optimizer, warmup)

    agrees(InverseSqrt(warmup / num_steps), sqrt, num_steps)
    agrees(Warmup(Constant(), warmup / num_steps), constant, num_steps)


@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize(("num_steps", "warmup", "cooldown"), [(50, 5, 10), (230, 31, 77)])
def test_wsd_is_that_of_transformers(optimization, shape, num_steps, warmup, cooldown):
    def make(optimizer):
        return optimization.get_wsd_schedule(
            optimizer, warmup, cooldown, num_training_steps=num_steps, decay_type=shape
        )

    # A square root magnifies the rounding of progress where the cooldown begins.
    schedule = Warmup(WSD(cooldown / num_steps, shape), warmup / num_steps)
    agrees(schedule, make, num_steps, atol=1e-7)


@pytest.mark.parametrize("num_steps", [7, 100])
def test_rex_is_that_of_pytorch_optimizer(num_steps):
    # Not through `trajectory`: its constructor takes the first step, and each `step` returns what it sets.
    scheduler = REXScheduler(sgd(), total_steps=num_steps, max_lr=LR)
    expected = [scheduler.step() for _ in range(num_steps)]
    np.testing.assert_allclose(LR * REX().profile(np.arange(1, num_steps + 1) / num_steps), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "name"), [("linear", "linear"), ("cosine", "cosine"), ("1-sqrt", "1-sqrt"), ("square", "1-square")]
)
def test_cooldowns_are_those_of_pytorch_optimizer(shape, name):
    def make(optimizer):
        return get_wsd_schedule(optimizer, 0, 160, 40, cooldown_type=name)

    agrees(WSD(0.2, shape), make, 200, atol=1e-7)
