"""Telemetry of PyTorch runs, against what autograd computed."""

import gc
import math
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from rlsched import Cosine, Linear, RLScheduler
from rlsched.monitor import Monitor
from tests.loops import batch, start, train
from tests.policies import random_policy


def test_an_update_skipped_by_gradient_scaling_is_not_measured():
    """A fused optimizer runs the step hooks even where the scaler makes it skip the update."""
    model = nn.Linear(6, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    monitor = Monitor(optimizer, frozenset({"update_ratio"}))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    monitor.begin(0, 4, 1)
    for step in range(4):
        x, y = batch(step)
        optimizer.zero_grad()
        scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
        if step == 2:
            torch.nn.init.constant_(next(p.grad for p in model.parameters() if p.grad is not None), math.inf)
        scaler.step(optimizer)
        scaler.update()
        monitor.record(1.0)
    assert sorted(monitor._gradients) == [0, 1, 3]
    assert all(ratio > 1e-4 for _, ratio, _ in monitor._gradients.values())


def test_large_models_are_measured_on_a_fair_subsample():
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(64, 64, generator=generator)) for _ in range(8)]
    for weight in weights:
        weight.grad = torch.randn(64, 64, generator=generator)
        weight.grad[:, ::8] *= 10.0  # columns differ, which a stride in step with the width would not see
    optimizer = torch.optim.SGD(weights, lr=0.01)

    def measure(elements):
        monitor = Monitor(optimizer, frozenset({"update_ratio"}), elements)
        monitor.begin(0, 1, 1)
        optimizer.step()
        return monitor._gradients[0][1]

    assert measure(2048) == pytest.approx(measure(2**20), rel=0.1)


def test_parameters_that_were_replaced_are_measured_as_they_are_now():
    """What is read of a large model is chosen once, and anew if its parameters are others or of another size."""
    weight, other = (nn.Parameter(torch.ones(64, 64)) for _ in range(2))
    optimizer = torch.optim.SGD([weight], lr=0.01)
    monitor = Monitor(optimizer, frozenset({"grad_norm", "update_ratio"}), elements=1024)

    def measure(gradient: float) -> tuple[float, float]:
        monitor.begin(0, 1, 1)
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        norm, ratio, _ = monitor._gradients[0]
        return norm, ratio

    norm, ratio = measure(1.0)
    assert ratio == pytest.approx(0.01)
    weight.data = torch.full((8, 16), 2.0)
    weight.grad = None
    assert measure(1.0) == pytest.approx((math.sqrt(128), 0.005)), "all of what is small"
    weight.data = torch.ones(64, 64)
    weight.grad = None
    assert measure(1.0) == pytest.approx((norm, ratio))
    optimizer.add_param_group({"params": [other]})
    assert measure(3.0)[1] == pytest.approx(0.03, rel=0.02), "of both"


def test_dropped_schedulers_stop_measuring():
    model, optimizer = start()
    old = RLScheduler(optimizer, 40, random_policy(0))
    monitor = weakref.ref(old._run._monitor)
    del old
    gc.collect()
    assert monitor() is None
    train(model, optimizer, RLScheduler(optimizer, 40, random_policy(0)), 5)


def test_gradient_telemetry_is_what_autograd_computed():
    first = nn.Linear(6, 5)
    first.weight.data *= 10.0  # most of what the model weighs: it must not drown the other matrix
    model = nn.Sequential(first, nn.Tanh(), nn.Linear(5, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    monitor = Monitor(optimizer, frozenset({"grad_norm", "update_ratio", "grad_agreement"}))
    monitor.begin(0, 3, 1)
    norms, ratios, cosines, last = [], [], [], None
    for step in range(3):
        x, y = batch(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        gradients = {p: p.grad.double() for p in model.parameters() if p.grad is not None}
        gradient = torch.cat([values.flatten() for values in gradients.values()])
        norms.append(float(gradient.norm()))
        matrices = [p for p in model.parameters() if p.ndim > 1]
        ratios += [float(0.05 * gradients[p].norm() / p.detach().double().norm()) for p in matrices]
        if last is not None:
            cosines.append(float(gradient @ last / gradient.norm() / last.norm()))
        last = gradient
        optimizer.step()
        monitor.record(1.0)
    scheduler = RLScheduler(start()[1], 10, controller=Linear())
    seen = monitor.close(scheduler._run.spec, 1)
    assert seen.grad_norm[0] == pytest.approx(np.exp(np.mean(np.log(norms))), rel=1e-5)
    assert seen.grad_spread[0] == pytest.approx(np.std(np.log(norms)), rel=1e-4)
    assert seen.update_ratio[0] == pytest.approx(np.exp(np.mean(np.log(ratios))), rel=1e-4)
    assert seen.grad_agreement[0] == pytest.approx(np.mean(cosines), rel=1e-4)


def test_zeroing_gradients_before_or_after_the_step_does_not_matter():
    def rates(zero_after):
        model, optimizer = start()
        scheduler = RLScheduler(optimizer, 40, random_policy(1))
        seen = []
        for step in range(40):
            x, y = batch(step)
            loss = nn.functional.cross_entropy(model(x), y)
            if not zero_after:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if zero_after:
                optimizer.zero_grad(set_to_none=True)
            scheduler.step(loss)
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    assert rates(True) == rates(False)


def test_open_loop_schedules_install_no_hooks():
    _, optimizer = start()
    RLScheduler(optimizer, 40, controller=Cosine())
    assert not optimizer._optimizer_step_pre_hooks
    RLScheduler(optimizer, 40, random_policy(0))
    assert len(optimizer._optimizer_step_pre_hooks) == 1


def test_gradients_that_a_closure_computes_are_measured_from_the_first_step_on():
    def windows(by_closure):
        model, optimizer = start()
        scheduler = RLScheduler(optimizer, 40, random_policy(0))
        x, y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
        found = []

        def closure():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        for _ in range(5):
            if by_closure:
                loss = optimizer.step(closure)
            else:
                loss = closure()
                optimizer.step()
            found.append(dict(scheduler._run._monitor._gradients))
            scheduler.step(loss)
        return found

    by_closure = windows(True)
    assert by_closure[0]
    np.testing.assert_equal(by_closure, windows(False))
