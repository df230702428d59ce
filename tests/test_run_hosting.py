"""What goes wrong around a scheduler in real scripts, and runs that are longer than planned."""

import io
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, SequentialLR

from rlsched import Buckets, Constant, CurriculumSampler, Event, Linear, Policy, RLScheduler
from tests.loops import start, train
from tests.policies import random_policy


def kinds(scheduler):
    return [event.kind for event in scheduler.events]


def test_stepping_once_per_epoch_is_pointed_out_at_once():
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 100, controller=Linear())
    for _ in range(20):
        optimizer.step()
    with pytest.warns(UserWarning, match=r"20 steps for 1 of scheduler.step\(\): call it after every optimizer"):
        scheduler.step(1.0)
    optimizer.step()
    scheduler.step(1.0)
    assert kinds(scheduler) == ["stepped_too_rarely"]


def test_stepping_twice_is_pointed_out():
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 100, controller=Linear())

    def run():
        for _ in range(16):
            optimizer.step()
            scheduler.step(1.0)
            scheduler.step(1.0)

    with pytest.warns(UserWarning, match="16 steps for 32 of scheduler.step.*do not prepare the scheduler"):
        run()
    assert kinds(scheduler) == ["stepped_too_often"]


def test_updates_that_gradient_scaling_skips_are_no_wrong_pace():
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 200, random_policy(1))
    optimizer._opt_called = True
    for step in range(200):
        if step > 3 and step % 10:
            optimizer.step()
        scheduler.step(1.0)
    assert kinds(scheduler) == []


def test_a_rate_that_something_else_sets_is_pointed_out_and_overruled():
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 40, controller=Constant(), on_event=lambda event: None)
    for _ in range(40):
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 7.0
        scheduler.step(1.0)
    assert kinds(scheduler) == ["lr_changed"]
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_another_scheduler_in_a_chain_is_pointed_out():
    _, optimizer = start()
    ours = RLScheduler(optimizer, 40, controller=Linear(), on_event=lambda event: None)
    chain = ChainedScheduler([ours, ConstantLR(optimizer, 0.5, 5)])
    for _ in range(20):
        optimizer.step()
        chain.step()
    assert kinds(ours) == ["lr_changed"]


def test_a_sequence_of_schedulers_is_refused_with_a_reason():
    _, optimizer = start()
    ours, other = RLScheduler(optimizer, 40, controller=Linear()), ConstantLR(optimizer, 0.5, 3)
    with pytest.raises(TypeError, match="can be no part of a SequentialLR"):
        SequentialLR(optimizer, [ours, other], milestones=[3])
    sequence = SequentialLR(optimizer, [other, ours], milestones=[1])
    optimizer.step()
    with pytest.raises(TypeError, match="can be no part of a SequentialLR"):
        sequence.step()


def test_validate_is_called_before_each_decision_and_is_what_reporting_is():
    def rates(by_call, loss=lambda step: 1.0 + step):
        model, optimizer = start()
        calls = []

        def validate():
            calls.append(scheduler.last_epoch)
            return loss(scheduler.last_epoch)

        scheduler = RLScheduler(
            optimizer,
            40,
            random_policy(1),
            num_decisions=8,
            validate=validate if by_call else None,
            on_event=lambda event: None,
        )
        due = set(scheduler._run.spec.decision_steps[0].tolist()) | {40}

        def report(losses):
            if not by_call and scheduler.last_epoch + 1 in due:
                scheduler.report_validation(loss(scheduler.last_epoch + 1))
            return losses.mean()

        seen = train(model, optimizer, scheduler, 40, report=report)
        assert sorted(due) == calls or not by_call
        return seen

    assert rates(True) == rates(False)
    silent = rates(True, lambda step: None)
    assert silent != rates(True)
    assert rates(True, lambda step: math.nan) == silent, "a validation that failed says nothing"
    assert rates(True, lambda step: torch.tensor(2.0)) == rates(True, lambda step: 2.0)
    with pytest.raises(TypeError, match="validate must be callable or None"):
        RLScheduler(start()[1], 40, controller=Linear(), validate=0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the result of validate must be a float"):
        rates(True, lambda step: "low")


@pytest.mark.parametrize("at", [1, 37, 99, 100, 130])
def test_a_run_can_be_extended_at_any_time(at):
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 100, controller=Linear(), num_decisions=10, on_event=lambda event: None)
    rates = train(model, optimizer, scheduler, at)
    scheduler.extend(200)
    rates += train(model, optimizer, scheduler, 200 - at)
    steps = np.arange(200)
    old, new = np.maximum(1.0 - steps / 100, 0.0), 1.0 - steps / 200
    expected = np.where(steps <= at, old, new) * 0.05
    np.testing.assert_allclose(rates, expected, atol=1e-12)
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert 10 <= len(scheduler.history()["step"]) <= 24
    with pytest.raises(ValueError, match=r"num_steps must be an integer >= 201, got 150.*extended, not cut"):
        scheduler.extend(150)


def test_an_extended_run_resumes_bit_exactly():
    def run(break_at=None):
        model, optimizer = start()
        scheduler = RLScheduler(optimizer, 60, random_policy(1))
        generator = torch.Generator().manual_seed(3)
        x, y = torch.randn(240, 6, generator=generator), torch.randint(3, (240,), generator=generator)
        rates = []
        for step in range(120):
            if step == 50:
                scheduler.extend(120)
            if step == break_at:
                file = io.BytesIO()
                torch.save([model.state_dict(), optimizer.state_dict(), scheduler.state_dict()], file)
                file.seek(0)
                states = torch.load(file, weights_only=True)
                model, optimizer = start()
                scheduler = RLScheduler(optimizer, 60, random_policy(1))
                for part, state in zip((model, optimizer, scheduler), states, strict=True):
                    part.load_state_dict(state)
            loss = nn.functional.cross_entropy(model(x[2 * step : 2 * step + 2]), y[2 * step : 2 * step + 2])
            optimizer.zero_grad()
            loss.backward()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step(loss)
        return rates, [p.detach().clone() for p in model.parameters()]

    rates, weights = run()
    for cut in (49, 51, 90):
        again, restored = run(cut)
        assert again == rates
        assert all(torch.equal(a, b) for a, b in zip(weights, restored, strict=True))


def test_warnings_point_at_the_line_that_led_to_them():
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 10, controller=Constant())
    with pytest.warns(UserWarning, match="beyond num_steps") as caught:
        train(model, optimizer, scheduler, 11)
    assert {warning.filename.rsplit("/", 1)[-1] for warning in caught} == {"loops.py"}


def test_events_are_kept_and_passed_on():
    seen: list[Event] = []
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 10, controller=Constant(), on_event=seen.append)
    train(model, optimizer, scheduler, 12)
    assert scheduler.events == seen != []


def test_telemetry_out_of_range_is_pointed_out_once():
    model, optimizer = start()
    policy = random_policy(1)
    tensors = dict(policy.tensors) | {
        "normalizer.run_mean": np.full_like(policy.tensors["normalizer.run_mean"], 900.0)
    }
    scheduler = RLScheduler(optimizer, 40, Policy(tensors, policy.metadata), on_event=lambda event: None)
    train(model, optimizer, scheduler, 40)
    assert kinds(scheduler) == ["out_of_range"]
    np.testing.assert_array_less(np.diff(scheduler.history()["lr_scale"][5:]), 0.0)


def test_a_run_without_losses_is_pointed_out_once():
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 40, random_policy(1), on_event=lambda event: None)
    plain = RLScheduler(start()[1], 40, controller=Linear(), on_event=lambda event: None)
    for _ in range(40):
        optimizer.step()
        scheduler.step()
        plain.optimizer.step()
        plain.step()
    assert kinds(scheduler) == ["no_loss"]
    assert kinds(plain) == [], "a plain schedule wants none"


def test_a_model_that_does_not_recover_is_pointed_out():
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 40, controller=Linear(), on_event=lambda event: None)
    train(model, optimizer, scheduler, 40, report=lambda losses: losses.mean() * math.nan)
    assert [(event.step, event.kind) for event in scheduler.events] == [(1, "non_finite_loss"), (10, "model_lost")]


def test_a_sampler_that_no_loader_draws_from_is_pointed_out():
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 40, random_policy(1), on_event=lambda event: None)
    CurriculumSampler(Buckets.from_scores(np.arange(80.0)), 8, scheduler)
    train(model, optimizer, scheduler, 40)
    ((kind, message),) = [(event.kind, event.message) for event in scheduler.events]
    assert kind == "no_bucket_losses"
    assert "no batch was drawn from it" in message


def test_validate_may_return_losses_of_examples_or_fail():
    def run(found):
        model, optimizer = start()
        scheduler = RLScheduler(
            optimizer, 40, random_policy(1), validate=lambda: found, on_event=lambda event: None
        )
        return train(model, optimizer, scheduler, 40), scheduler

    rates, _ = run(2)
    assert rates == run(2.0)[0] == run(torch.tensor([1.0, 3.0]))[0]
    rates, scheduler = run(torch.tensor([1.0, math.nan]))
    assert kinds(scheduler) == ["non_finite_validation"]
    assert rates == run(None)[0]
