"""The scheduler in PyTorch loops: contracts of LRScheduler, telemetry, guard, state."""

import io
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from torch.utils.data import DataLoader, TensorDataset

from rlsched import Buckets, Constant, Cosine, CurriculumSampler, Event, Guard, Linear, RLScheduler
from tests.loops import start, train
from tests.policies import random_policy


def test_it_is_an_lrscheduler_and_a_cosine_is_a_cosine():
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 50, controller=Cosine())
    assert isinstance(scheduler, LRScheduler)
    twin = torch.optim.SGD([torch.zeros(1)], lr=0.05)
    reference = CosineAnnealingLR(twin, T_max=50)
    expected = []
    for _ in range(50):
        expected.append(twin.param_groups[0]["lr"])
        twin.step()
        reference.step()
    np.testing.assert_allclose(train(model, optimizer, scheduler, 50), expected, rtol=1e-9)
    assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]
    assert scheduler.last_epoch == 50


def test_without_losses_a_policy_is_linear_decay_after_four_steps():
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 40, random_policy(1), num_decisions=10, on_event=lambda event: None)
    rates = train(model, optimizer, scheduler, 40, report=lambda losses: None)
    np.testing.assert_allclose(rates[4:], 0.05 * (1 - np.arange(4, 40) / 40), rtol=1e-9)
    assert rates[0] < 0.001
    assert rates[0] < rates[1] < rates[2] < rates[4]


@pytest.mark.parametrize(
    "report",
    [
        lambda losses: losses.mean().item(),
        lambda losses: np.float32(losses.mean().item()),
        lambda losses: losses.mean(),
        lambda losses: losses.mean().detach(),
        lambda losses: losses,
        lambda losses: losses.detach().numpy(),
    ],
)
def test_every_form_of_the_loss_means_the_same(report):
    def rates(form):
        model, optimizer = start()
        return train(model, optimizer, RLScheduler(optimizer, 40, random_policy(1)), 40, report=form)

    np.testing.assert_allclose(rates(report), rates(lambda losses: losses.mean().item()), rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        ("0.5", TypeError, "loss must be a float, or a tensor or array of floats, or None, got str"),
        (True, TypeError, "got True .bool.: pass the loss, not a step or an epoch"),
        (3, TypeError, "got 3 .int.: pass the loss, not a step or an epoch"),
        (torch.tensor(True), TypeError, "got a tensor of torch.bool"),
        (torch.tensor(1j), TypeError, "got a tensor of torch.complex64"),
        (torch.zeros(2, 2), ValueError, r"got shape \(2, 2\): average over all but the batch"),
        (torch.zeros(0), ValueError, "loss must be a scalar or one value per example"),
        (np.array(["a"]), TypeError, "got ndarray"),
        ([1.0], TypeError, "got list: wrap it by torch.tensor"),
    ],
)
def test_a_loss_of_another_kind_is_refused(loss, error, words):
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 40, controller=Linear())
    train(model, optimizer, scheduler, 1)
    with pytest.raises(error, match=words):
        scheduler.step(loss)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"num_steps": 0}, ValueError, "num_steps must be an integer >= 2, got 0. It counts optimizer steps"),
        ({"num_steps": 10.0}, TypeError, "num_steps must be an integer, got 10.0"),
        ({"num_decisions": 40}, ValueError, r"num_decisions must be an integer in \[1, 39\]"),
        ({"policy": random_policy(0)}, ValueError, "not both"),
        ({"controller": None, "policy": Cosine()}, TypeError, "got Cosine: pass it as controller="),
        ({"controller": None, "policy": "tests"}, FileNotFoundError, "no policy file at tests/policy.safetensors"),
        (
            {"controller": None, "policy": 7},
            TypeError,
            "policy must be an rlsched.Policy or its path, got int",
        ),
        (
            {"controller": None, "policy": "nowhere.safetensors"},
            FileNotFoundError,
            "no policy file at nowhere",
        ),
        ({"controller": "cosine"}, TypeError, "controller must be a Controller.*got a str"),
        ({"controller": Cosine}, TypeError, "controller must be a Controller.*got the class Cosine"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, got 0"),
        ({"epochs": 0}, ValueError, "epochs must be a finite number > 0, got 0"),
        ({"epochs": "3"}, TypeError, "epochs must be a number, got '3'"),
        ({"on_event": 3}, TypeError, "on_event must be callable or None, got int"),
        ({"optimizer": nn.Linear(1, 1)}, TypeError, "optimizer must be a torch.optim.Optimizer, got Linear"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, words):
    settings = {"optimizer": start()[1], "num_steps": 40, "controller": Linear()} | arguments
    with pytest.raises(error, match=words):
        RLScheduler(**settings)


def test_a_controller_that_reads_what_cannot_be_measured_is_refused():
    class Spectral(Constant):
        reads = frozenset({"loss", "weight_spectra"})

    with pytest.raises(ValueError, match=r"controller reads \['weight_spectra'\], which RLScheduler cannot"):
        RLScheduler(start()[1], 40, controller=Spectral())


def test_groups_keep_their_ratios_and_tensor_learning_rates_are_filled_in_place():
    weights = [nn.Parameter(torch.ones(3)) for _ in range(4)]
    rate, late = torch.tensor(0.3), torch.tensor(0.7)
    optimizer = torch.optim.Adam([{"params": [weights[0]], "lr": rate}, {"params": [weights[1]], "lr": 0.01}])
    scheduler = RLScheduler(optimizer, 20, controller=Linear())
    for step in range(20):
        if step == 10:
            optimizer.add_param_group({"params": [weights[2]], "lr": 0.5})
            optimizer.add_param_group({"params": [weights[3]], "lr": late})
        groups = optimizer.param_groups
        assert groups[0]["lr"] is rate
        assert float(groups[0]["lr"]) == pytest.approx(0.3 * (1 - step / 20))
        assert groups[1]["lr"] == pytest.approx(0.01 * (1 - step / 20))
        if step > 10:
            assert groups[2]["lr"] == pytest.approx(0.5 * (1 - step / 20))
            assert groups[3]["lr"] is late
            assert float(late) == pytest.approx(0.7 * (1 - step / 20))
        optimizer.step()
        scheduler.step(1.0)
    assert len(scheduler.get_last_lr()) == 4
    rates = scheduler.history()["lr"]
    assert rates.shape[1] == 4
    assert np.isnan(rates[0]).tolist() == [False, False, True, True]
    assert np.isfinite(rates[-1]).all()
    scheduler.load_state_dict(scheduler.state_dict())


def test_stepping_before_the_optimizer_warns():
    scheduler = RLScheduler(start()[1], 20, controller=Linear())
    with pytest.warns(UserWarning, match="called before optimizer.step"):
        scheduler.step(1.0)


def test_a_first_update_that_was_skipped_for_its_loss_is_no_mistake():
    events: list[Event] = []
    scheduler = RLScheduler(start()[1], 20, controller=Linear(), on_event=events.append)
    scheduler.step(math.nan)
    assert [event.kind for event in events] == ["non_finite_loss"]


def test_warnings_do_not_flood():
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 100, controller=Linear())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(100):
            optimizer.step()
            scheduler.step(math.nan if step % 2 else 1.0)
    assert ["is not finite" in str(warning.message) for warning in caught] == [True] * 3
    assert {warning.filename for warning in caught} == {__file__}, "they point at the caller of step"
    assert len(scheduler.events) == 50


def test_steps_beyond_the_end_keep_the_last_rate_and_say_so():
    model, optimizer = start()
    events: list[Event] = []
    scheduler = RLScheduler(optimizer, 10, controller=Constant(), on_event=events.append)
    rates = train(model, optimizer, scheduler, 15)
    assert rates == [0.05] * 15
    assert [(event.step, event.kind) for event in events] == [(11, "past_end")]
    assert scheduler.events == events


def test_a_non_finite_loss_cuts_the_rate_at_once_and_is_recovered_from():
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 100, controller=Constant(), num_decisions=10)
    rates = []
    for step in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step == 20:
            with pytest.warns(UserWarning, match="the loss at step 21 is not finite"):
                scheduler.step(math.nan)
        else:
            scheduler.step(1.0)
    assert rates[20] == 0.05
    assert rates[21] == pytest.approx(0.005)
    assert rates[-1] == pytest.approx(0.05)
    assert [event.kind for event in scheduler.events] == ["non_finite_loss"]


def test_a_loss_that_stays_non_finite_is_reported_once_and_the_cut_has_a_limit():
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 50, random_policy(1), on_event=lambda event: None)
    train(model, optimizer, scheduler, 50, report=lambda losses: torch.full((), math.inf))
    assert [event.kind for event in scheduler.events].count("non_finite_loss") == 1
    assert np.isfinite(scheduler.history()["lr"]).all()
    assert len(scheduler.history()["step"]) <= 20 + 3

    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 1000, controller=Constant(), on_event=lambda event: None)
    for step in range(1000):
        optimizer.step()
        scheduler.step(math.nan if 300 <= step < 310 else 1.0)
        assert optimizer.param_groups[0]["lr"] >= 0.05 * 1e-3 * (1 - 1e-9)
        if step == 500:
            assert optimizer.param_groups[0]["lr"] == 0.05


def test_an_exploding_loss_cuts_the_rate_at_once_and_is_recovered_from():
    _, optimizer = start()
    events: list[Event] = []
    scheduler = RLScheduler(optimizer, 200, controller=Constant(), num_decisions=10, on_event=events.append)
    rates = []
    for step in range(200):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(50.0 if 100 <= step < 110 else 1.0)
    ((kind, step),) = [(event.kind, event.step) for event in events]
    assert kind == "exploding_loss"
    assert 100 < step < 110
    assert rates[step - 1] == 0.05
    assert rates[step] == pytest.approx(0.005)
    assert rates[-1] == pytest.approx(0.05)


def test_without_a_guard_nothing_is_cut():
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 40, controller=Constant(), guard=False)
    for step in range(40):
        optimizer.step()
        scheduler.step(math.nan if step == 5 else 50.0 if step > 20 else 1.0)
    assert scheduler.events == []
    np.testing.assert_array_equal(scheduler.history()["lr_scale"], 1.0)


def test_a_guard_of_ones_own_is_not_wrapped_again():
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 40, controller=Guard(Constant(), backoff=0.5), on_event=lambda event: None)
    optimizer.step()
    scheduler.step(math.nan)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.025)


def test_validation_feedback_reaches_the_policy():
    def rates(validate):
        model, optimizer = start()
        scheduler = RLScheduler(optimizer, 40, random_policy(1))

        def report(losses):
            if validate:
                scheduler.report_validation(1.0 + scheduler.last_epoch)
            return losses.mean()

        return train(model, optimizer, scheduler, 40, report=report)

    assert rates(True) != rates(False)
    scheduler = RLScheduler(start()[1], 40, controller=Linear(), on_event=lambda event: None)
    scheduler.report_validation(torch.tensor([1.0, 3.0]))
    assert scheduler._run._monitor.validation == 2.0
    scheduler.report_validation(math.nan)
    assert [event.kind for event in scheduler.events] == ["non_finite_validation"]
    assert scheduler._run._monitor.validation == 2.0
    with pytest.raises(TypeError, match="loss must be a float"):
        scheduler.report_validation("low")  # type: ignore[arg-type]


def test_a_group_that_has_just_joined_is_saved():
    def two():
        model, optimizer = start()
        scheduler = RLScheduler(optimizer, 40, random_policy(1))
        train(model, optimizer, scheduler, 5)
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.5})
        return scheduler

    saved = two().state_dict()
    assert saved["base_lrs"] == [0.05, 0.5]
    two().load_state_dict(saved)


def test_metrics_are_the_losses_they_hold():
    def rates(report):
        model, optimizer = start()
        scheduler = RLScheduler(optimizer, 40, random_policy(1))

        def step(losses):
            return report(scheduler, losses.mean(), 1.0 + scheduler.last_epoch)

        return train(model, optimizer, scheduler, 40, report=step)

    def apart(scheduler, loss, validation):
        scheduler.report_validation(validation)
        return loss

    together = rates(lambda _, loss, validation: {"loss": loss, "validation_loss": validation, "accuracy": 0.5})
    assert together == rates(apart)
    assert rates(lambda _, loss, __: {"loss": loss, "validation_loss": None}) == rates(lambda _, loss, __: loss)
    with pytest.raises(ValueError, match=r"metrics must hold \"loss\" or \"validation_loss\", got \['accuracy'\]"):
        RLScheduler(start()[1], 40, controller=Linear()).step({"accuracy": 0.5})


BUCKETS = Buckets.from_scores(np.arange(120.0), count=4)


def curriculum_run(policy, num_steps=60):
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, num_steps, policy, num_decisions=12)
    return model, optimizer, scheduler, CurriculumSampler(BUCKETS, 16, scheduler, seed=5)


def curriculum_steps(run, steps):
    model, optimizer, scheduler, sampler = run
    generator = torch.Generator().manual_seed(7)
    x, y = torch.randn(120, 6, generator=generator), torch.randint(3, (120,), generator=generator)
    seen = []
    for _ in range(steps):
        index = sampler.draw()
        losses = nn.functional.cross_entropy(model(x[index]), y[index], reduction="none")
        optimizer.zero_grad()
        losses.mean().backward()
        seen.append((optimizer.param_groups[0]["lr"], *sampler.weights, *index.tolist()))
        optimizer.step()
        scheduler.step(losses)
    return seen


def test_a_run_resumed_in_the_middle_of_a_window_is_bit_exact():
    whole = curriculum_steps(curriculum_run(random_policy(1)), 60)
    first = curriculum_run(random_policy(1))
    start_of_it = curriculum_steps(first, 23)
    buffer = io.BytesIO()
    model, optimizer, scheduler, sampler = first
    torch.save([part.state_dict() for part in (model, optimizer, scheduler, sampler)], buffer)
    buffer.seek(0)
    states = torch.load(buffer, weights_only=True)
    # A twin that is configured differently: the state decides.
    model, optimizer = start(lr=7.0, seed=3)
    scheduler = RLScheduler(optimizer, 99, random_policy(1), num_decisions=5)
    sampler = CurriculumSampler(BUCKETS, 16, scheduler, seed=1)
    for part, state in zip((model, optimizer, scheduler, sampler), states, strict=True):
        part.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == whole[23][0]
    assert start_of_it + curriculum_steps((model, optimizer, scheduler, sampler), 37) == whole


def test_history_and_events_survive_a_checkpoint():
    _, optimizer, scheduler, _ = run = curriculum_run(random_policy(1))
    curriculum_steps(run, 20)
    scheduler._log._on_event = lambda event: None
    optimizer.step()
    scheduler._run.sampler.draw()
    scheduler.step(math.nan)
    twin = curriculum_run(random_policy(1))[2]
    twin.load_state_dict(scheduler.state_dict())
    assert twin.events == scheduler.events
    assert len(twin.events) == 1
    for name, rows in scheduler.history().items():
        np.testing.assert_array_equal(twin.history()[name], rows)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: curriculum_run(random_policy(1))[2], "of a run with 4 buckets, this one has 1"),
        (lambda: RLScheduler(start()[1], 60, controller=Linear()), "of another kind of controller"),
        (lambda: RLScheduler(start()[1], 60, random_policy(1), guard=False), "of another kind of controller"),
        (lambda: CosineAnnealingLR(start()[1], T_max=60), "not one of an RLScheduler"),
        (
            lambda: RLScheduler(
                torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))]} for _ in range(2)], lr=0.1),
                60,
                random_policy(1),
            ),
            "of a run with 2 parameter groups, this one has 1",
        ),
    ],
)
def test_the_state_of_something_else_is_refused_and_changes_nothing(make, words):
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 60, random_policy(1))
    train(model, optimizer, scheduler, 5)
    before = (scheduler.last_epoch, scheduler.get_last_lr())
    with pytest.raises(ValueError, match=words):
        scheduler.load_state_dict(make().state_dict())
    assert (scheduler.last_epoch, scheduler.get_last_lr()) == before


def test_a_validation_loss_outlives_a_window_that_the_guard_discards():
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 100, random_policy(1), on_event=lambda event: None)
    for step in range(40):
        optimizer.step()
        if step == 30:
            scheduler.report_validation(3.0)
        scheduler.step(math.nan if step == 30 else 1.0)
    seen = scheduler.state_dict()["controller"]["controller"]["observation"]["last_validation"]
    assert seen.item() == pytest.approx(math.log(3.0))


def test_nothing_is_collected_after_the_end():
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 10, random_policy(1), on_event=lambda event: None)
    train(model, optimizer, scheduler, 200)
    collected = scheduler.state_dict()["monitor"]
    assert len(collected["losses"]) == 0
    assert len(collected["gradients"]) == 0


def test_the_batch_size_is_what_the_policy_is_told():
    def rates(**arguments):
        model, optimizer = start()
        return train(model, optimizer, RLScheduler(optimizer, 40, random_policy(1), **arguments), 40)

    assert rates() == rates(batch_size=32), "the neutral value"
    assert rates(batch_size=512) != rates()


def test_how_often_the_data_are_seen_is_what_the_policy_is_told():
    def scheduler(**arguments):
        return RLScheduler(start()[1], 40, random_policy(1), **arguments)

    def rates(**arguments):
        model, optimizer = start()
        return train(model, optimizer, RLScheduler(optimizer, 40, random_policy(1), **arguments), 40)

    assert rates() == rates(epochs=4), "the neutral value"
    assert rates(epochs=16) != rates()

    told, twin = scheduler(epochs=2), scheduler()
    told.extend(60)
    assert told.epochs == told._run.spec.epochs == 3
    twin.load_state_dict(told.state_dict())
    assert twin._run.spec.epochs == 3

    sampled = scheduler(epochs=1)
    CurriculumSampler(Buckets.from_groups(np.zeros(80)), 16, sampled)
    assert sampled._run.spec.epochs == 40 * 16 / 80


def test_weights_follow_the_scheduler_live_through_a_loader():
    model, optimizer, scheduler, sampler = curriculum_run(random_policy(1))
    with pytest.raises(ValueError, match="weights are set by this sampler's scheduler"):
        sampler.set_weights([1, 1, 1, 1])
    dataset = TensorDataset(torch.randn(120, 6), torch.randint(3, (120,)), torch.arange(120))
    seen, step = [], 0
    while step < 60:
        for x, y, index in DataLoader(dataset, batch_sampler=sampler):
            counts = np.bincount(BUCKETS.ids[index.numpy()], minlength=4)
            assert (np.abs(counts - 16 * scheduler.bucket_weights) < 1).all()
            seen.append(scheduler.bucket_weights)
            losses = nn.functional.cross_entropy(model(x), y, reduction="none")
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
            scheduler.step(losses)
            step += 1
            if step == 60:
                break
    assert len({tuple(weights) for weights in seen}) > 5


def test_a_sampler_cannot_join_late_or_twice():
    model, optimizer, scheduler, _ = curriculum_run(random_policy(1))
    with pytest.raises(ValueError, match="without a sampler, got one already"):
        CurriculumSampler(BUCKETS, 16, scheduler)
    scheduler = RLScheduler(optimizer, 60, random_policy(1))
    train(model, optimizer, scheduler, 2)
    with pytest.raises(ValueError, match="must be new, without a sampler, got 2 steps done"):
        CurriculumSampler(BUCKETS, 16, scheduler)


def test_a_curriculum_without_losses_of_examples_is_pointed_out_once():
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 30, random_policy(1))
    sampler = CurriculumSampler(Buckets.from_scores(np.arange(64.0)), 16, scheduler)

    def report(losses):
        sampler.draw()
        return losses.mean()

    with pytest.warns(UserWarning, match="a sampler is attached, but the losses of its buckets") as caught:
        train(model, optimizer, scheduler, 15, report=report)
    assert len(caught) == 1
    assert [event.kind for event in scheduler.events] == ["no_bucket_losses"]
    # Nobody but a policy needs them.
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 30, controller=Cosine())
    CurriculumSampler(Buckets.from_scores(np.arange(64.0)), 16, scheduler)
    train(model, optimizer, scheduler, 5)
    assert scheduler.events == []


def test_negative_losses_are_pointed_out_once():
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 30, random_policy(1))
    with pytest.warns(UserWarning, match="the loss is negative, and a policy then holds still") as caught:
        train(model, optimizer, scheduler, 5, report=lambda losses: -losses.mean())
    assert len(caught) == 1
