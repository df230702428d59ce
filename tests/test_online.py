"""Buckets from running losses, alone and in training loops; reported bucket losses."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rlsched import Buckets, Constant, CurriculumSampler, Linear, OnlineBuckets, RLScheduler
from rlsched.contract import Decision
from rlsched.monitor import Monitor
from tests.policies import random_policy


def test_running_losses_are_those_of_a_loop_over_the_examples():
    rng, online = np.random.default_rng(0), OnlineBuckets(30, rate=0.3)
    running: dict[int, float] = {}
    for _ in range(50):
        indices = rng.integers(25, size=12)  # with repetitions
        losses = np.where(rng.random(12) < 0.1, rng.choice([np.nan, np.inf, -np.inf], 12), rng.random(12))
        online.record(indices, losses)
        for i, loss in zip(indices.tolist(), losses.tolist(), strict=True):
            if math.isfinite(loss):
                running[i] = running[i] + 0.3 * (loss - running[i]) if i in running else loss
    expected = [running.get(i, np.nan) for i in range(30)]
    np.testing.assert_array_equal(online.running_loss, expected)
    assert np.isnan(expected[25:]).all()


def test_buckets_are_the_quantiles_of_the_running_losses():
    online, losses = OnlineBuckets(103, count=4), np.random.default_rng(0).standard_normal(103)
    online.record(np.arange(103), losses)
    before = online.buckets
    assert online.buckets is before, "they change at a refresh only"
    buckets = online.refresh()
    assert online.buckets is buckets
    np.testing.assert_array_equal(buckets.ids, Buckets.from_scores(losses, 4).ids)
    assert buckets.difficulty.tolist() == [0, 1 / 3, 2 / 3, 1]
    assert (len(online), online.count) == (103, 4)


def test_the_unseen_are_spread_evenly_and_stay_where_they_are():
    online = OnlineBuckets(400, count=4, seed=1)
    first = online.buckets.ids
    assert np.bincount(first[:200]).min() > 30
    online.record(np.arange(200), np.arange(200.0))
    ids = online.refresh().ids
    assert sorted(online.buckets.sizes.tolist()) == [100] * 4
    assert np.bincount(ids[200:]).min() > 30
    # The seen are in order, and take part in each bucket too.
    assert (np.diff(ids[:200]) >= 0).all()
    assert np.bincount(ids[:200]).min() > 30
    assert (ids[200:] == first[200:]).mean() > 0.8
    assert not np.array_equal(first, OnlineBuckets(400, count=4, seed=2).buckets.ids)


def test_ranks_by_hand():
    """One example seen of four has rank 1/2; the others keep their uniform numbers."""
    online = OnlineBuckets(4, count=4, seed=5)
    online.record([2], [100.0])
    scores = np.random.default_rng(5).random(4)
    scores[2] = 0.5
    np.testing.assert_array_equal(online.refresh().ids, np.argsort(np.argsort(scores)))


WRONG: Any = "0.5"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: OnlineBuckets(0), ValueError, "num_examples must be an integer >= 1, got 0"),
        (lambda: OnlineBuckets(3), ValueError, r"count must be an integer in \[1, 3\], got 4. A bucket needs"),
        (lambda: OnlineBuckets(9, seed=-1), ValueError, "seed must be an integer >= 0"),
        (
            lambda: OnlineBuckets(9, rate=0.0),
            ValueError,
            "rate must be a finite number in .* weight of the newest",
        ),
        (lambda: OnlineBuckets(9, rate=1.5), ValueError, "rate must be a finite number in"),
        (lambda: OnlineBuckets(9, rate=WRONG), TypeError, "rate must be a number"),
        (lambda: OnlineBuckets(9).record([9], [1.0]), ValueError, r"indices must be in \[0, 8\], got 9: they are"),
        (lambda: OnlineBuckets(9).record([0, -1], [1.0, 1.0]), ValueError, r"indices must be in \[0, 8\], got -1"),
        (lambda: OnlineBuckets(9).record([0.5], [1.0]), ValueError, "indices must be integers, got 0.5"),
        (lambda: OnlineBuckets(9).record([0, 1], [1.0]), ValueError, "losses must be 2 numbers, got 1. Give one"),
        (lambda: OnlineBuckets(9).record([0], [1]), TypeError, "losses must be floats, got list of int64"),
        (lambda: OnlineBuckets(9).record([0], [[1.0]]), ValueError, "losses must be a non-empty one-dimensional"),
        (lambda: OnlineBuckets(9).load_state_dict({}), ValueError, "not one of OnlineBuckets"),
        (
            lambda: OnlineBuckets(9).load_state_dict(OnlineBuckets(9, count=3).state_dict()),
            ValueError,
            "the state is of 9 examples in 3 buckets, this has 9 in 4",
        ),
    ],
)
def test_bad_input_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_state_restores_everything():
    rng, one = np.random.default_rng(0), OnlineBuckets(50, seed=1, rate=0.2)
    one.record(rng.integers(50, size=30), rng.random(30))
    one.refresh()
    one.record(rng.integers(50, size=30), rng.random(30))
    other = OnlineBuckets(50, seed=2)
    other.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(one.buckets.ids, other.buckets.ids)
    for online in (one, other):
        online.record([3, 4], [7.0, 8.0])
    np.testing.assert_array_equal(one.refresh().ids, other.refresh().ids)


def attached(controller=None, num_steps=40, batch_size=10, examples=100, **settings):
    """A scheduler, its sampler over `OnlineBuckets`, and them."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = RLScheduler(optimizer, num_steps, controller=controller or Linear(), on_event=lambda event: None)
    optimizer.step()
    online = OnlineBuckets(examples)
    return scheduler, CurriculumSampler(online, batch_size, scheduler, **settings), online


@pytest.mark.parametrize("loss", [0.5, torch.tensor(0.5), None, math.nan])
def test_online_buckets_insist_on_per_example_losses(loss):
    scheduler, sampler, _ = attached()
    sampler.draw()
    with pytest.raises(ValueError, match=r"one value per example \(10\) for OnlineBuckets, got .*fixed Buckets"):
        scheduler.step(loss)
    assert scheduler.last_epoch == 0
    scheduler.step(torch.ones(10))


def test_losses_reach_their_examples_and_the_partition_follows_at_decisions():
    scheduler, sampler, online = attached(num_steps=40)
    decisions = set(scheduler._run.spec.decision_steps[0].tolist())
    last: dict[int, float] = {}
    for step in range(1, 40):
        before = sampler.buckets
        index = sampler.draw()
        np.testing.assert_array_equal(before.ids[index], np.sort(before.ids[index]))  # of these buckets
        losses = np.sin(index + 1.0)
        scheduler.step(losses)
        last |= dict(zip(index.tolist(), losses.tolist(), strict=True))
        assert (sampler.buckets is not before) == (step in decisions)
    assert len(last) == 100
    np.testing.assert_allclose(online.running_loss, np.sin(np.arange(100) + 1.0))
    sampler.refresh()
    np.testing.assert_array_equal(sampler.buckets.ids, Buckets.from_scores(np.sin(np.arange(100) + 1.0)).ids)


def test_batches_drawn_ahead_count_for_the_buckets_they_were_drawn_from():
    """A loader's worker draws ahead: bucket ids and indices are remembered, whatever was refreshed meanwhile."""

    class Watching(Constant):
        reads = frozenset({"bucket_loss"})
        seen: list[np.ndarray] = []  # noqa: RUF012

        def decide(self, state, window):
            self.seen.append(window.bucket_loss[0])
            return super().decide(state, window)

    watching = Watching()
    scheduler, sampler, online = attached(watching)
    drawn = []
    for _ in range(20):
        ids = sampler.buckets.ids
        index = sampler.draw()
        drawn.append((index, ids[index]))
    watching.seen.clear()
    start = 0
    for step, (index, _) in enumerate(drawn, start=1):
        scheduler.step(index.astype(float))
        if len(watching.seen):
            window = drawn[start:step]
            indices, ids = (np.concatenate(part) for part in zip(*window, strict=True))
            expected = [indices[ids == k].mean() for k in range(4)]
            np.testing.assert_allclose(watching.seen.pop(), expected)
            start = step
    assert start > 10
    seen = np.concatenate([index for index, _ in drawn])
    np.testing.assert_allclose(online.running_loss[seen], seen)


def test_without_a_scheduler_by_hand():
    online = OnlineBuckets(100)
    sampler = CurriculumSampler(online, 10)
    sampler.set_weights([0, 0, 0, 1])
    online.record(np.arange(100), np.arange(100.0))
    sampler.refresh()
    assert all((sampler.draw() >= 75).all() for _ in range(5))
    fixed = CurriculumSampler(Buckets.from_scores(np.arange(100.0)), 10)
    before = fixed.buckets
    fixed.refresh()
    assert fixed.buckets is before


class Hardest:
    """Constant learning rate; weights in favour of the hard buckets."""

    reads = frozenset({"bucket_loss"})

    def init(self, spec):
        return {"seen": np.zeros(1)}

    def decide(self, state, window):
        weights = np.linspace(1.0, 3.0, window.spec.num_buckets)[None]
        return state, Decision(np.ones_like(window.progress_ahead()), weights / weights.sum())


def noisy_run(seed=0, num_steps=200, controller=None, online_seed=0):
    """Three clusters, a tenth of their labels wrong, learnt through a loader."""
    rng = np.random.default_rng(3)
    labels = rng.integers(3, size=300)
    x = 2.0 * np.eye(3)[labels] + 0.5 * rng.standard_normal((300, 3))
    labels[:30] = (labels[:30] + 1) % 3
    model = nn.Linear(3, 3)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3))
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    policy = None if controller else random_policy(1)
    scheduler = RLScheduler(optimizer, num_steps, policy, controller=controller, num_decisions=20)
    sampler = CurriculumSampler(OnlineBuckets(300, seed=online_seed), 30, scheduler, seed=seed)
    dataset = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(labels), torch.arange(300))
    return model, optimizer, scheduler, sampler, dataset


def go(run, steps):
    model, optimizer, scheduler, sampler, dataset = run
    seen: list[tuple] = []
    while True:
        for x, y, index in DataLoader(dataset, batch_sampler=sampler):
            losses = nn.functional.cross_entropy(model(x), y, reduction="none")
            optimizer.zero_grad()
            losses.mean().backward()
            seen.append((optimizer.param_groups[0]["lr"], *sampler.weights, *index.tolist(), *losses.tolist()))
            optimizer.step()
            scheduler.step(losses)
            if len(seen) == steps:
                return seen


def test_online_buckets_find_wrong_labels_while_training():
    *_, sampler, _ = run = noisy_run(controller=Hardest())
    assert np.bincount(sampler.buckets.ids[:30], minlength=4).max() < 20
    go(run, 200)
    ids = sampler.buckets.ids
    assert (ids[:30] == 3).mean() > 0.9
    assert (ids[30:] == 3).mean() < 0.2


def test_a_run_resumed_in_the_middle_is_bit_exact():
    whole, weights = noisy_run(), []
    expected = []
    for _ in range(6):
        expected += go(whole, 20)
        weights.append(whole[3].weights)
    first = noisy_run()
    seen = go(first, 20) + go(first, 17)
    buffer = io.BytesIO()
    torch.save([part.state_dict() for part in first[:4]], buffer)
    buffer.seek(0)
    states = torch.load(buffer, weights_only=True)
    second = noisy_run(seed=8, num_steps=99, online_seed=9)
    for part, state in zip(second[:4], states, strict=True):
        part.load_state_dict(state)
    np.testing.assert_array_equal(second[3].buckets.ids, first[3].buckets.ids)
    assert seen + go(second, 3) + [step for _ in range(4) for step in go(second, 20)] == expected
    assert len({tuple(row) for row in weights}) > 3


def test_batches_that_are_pending_survive_a_checkpoint():
    one, other = attached()[1], attached(seed=7)[1]
    before = one.buckets.ids
    indices = [one.draw() for _ in range(2)]
    one.refresh()
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for index in indices:
        np.testing.assert_array_equal(other.account_for(index.astype(float))[1], before[index])
    assert other.account_for(np.ones(10))[1] is None
    other.refresh()
    one.account_for(indices[0].astype(float))
    one.account_for(indices[1].astype(float))
    one.refresh()
    np.testing.assert_array_equal(one.buckets.ids, other.buckets.ids)
    np.testing.assert_array_equal(one.draw(), other.draw())


@pytest.mark.parametrize("refreshes", [0, 2])
def test_the_seeds_of_the_twin_that_loads_do_not_matter(refreshes):
    one = CurriculumSampler(OnlineBuckets(100, seed=1), 10, seed=1)
    for _ in range(refreshes):
        one.draw()
        one.refresh()
    other = CurriculumSampler(OnlineBuckets(100, seed=2), 10, seed=2)
    other.load_state_dict(one.state_dict())
    for _ in range(3):
        np.testing.assert_array_equal([one.draw() for _ in range(20)], [other.draw() for _ in range(20)])
        for sampler in (one, other):
            sampler.refresh()


@pytest.mark.parametrize(("saved", "loading"), [(True, False), (False, True)])
def test_a_state_of_the_other_kind_of_buckets_is_refused(saved, loading):
    def sampler(online):
        return CurriculumSampler(OnlineBuckets(20) if online else Buckets.from_scores(np.arange(20.0)), 4)

    with pytest.raises(ValueError, match=r"the state is of a sampler of .*Buckets, this one's are"):
        sampler(loading).load_state_dict(sampler(saved).state_dict())


def test_reported_bucket_losses_replace_those_drawn_for_one_window():
    monitor = Monitor(torch.optim.SGD([torch.zeros(1)], lr=0.1), frozenset({"bucket_loss"}))
    spec = attached()[0]._run.spec
    ids = np.array([0, 0, 1, 2])
    monitor.begin(0, 2, 4)
    monitor.record(3.25, np.array([1.0, 3.0, 4.0, 5.0]), ids)
    monitor.report_buckets(np.array([np.nan, 9.0, 9.0, 9.0]))
    monitor.report_buckets(np.array([np.nan, 7.0, np.nan, 8.0]))
    twin = Monitor(torch.optim.SGD([torch.zeros(1)], lr=0.1), frozenset())
    twin.load_state_dict(monitor.state_dict())
    for one in (monitor, twin):
        assert one.close(spec, 1).bucket_loss.tolist() == [[2.0, 7.0, 9.0, 8.0]]
        one.begin(2, 2, 4)
        one.record(3.25, np.array([1.0, 3.0, 4.0, 5.0]), ids)
        np.testing.assert_array_equal(one.close(spec, 2).bucket_loss, [[2.0, 4.0, 5.0, np.nan]])


def test_reported_bucket_losses_reach_the_policy():
    """Without them a bucket that was never drawn from keeps the mixture natural."""

    def rates(report):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = RLScheduler(optimizer, 40, random_policy(1))
        sampler = CurriculumSampler(Buckets.from_scores(np.arange(100.0)), 10, scheduler)
        for step in range(20):
            optimizer.step()
            sampler.draw()
            if report:
                scheduler.report_bucket_losses([1.0, 2.0, 3.0, 4.0 - step / 10])
            scheduler.step(1.0)
        return scheduler.bucket_weights

    with pytest.warns(UserWarning, match="the losses of its buckets are not known"):
        assert rates(False).tolist() == [0.25] * 4
    assert len(set(rates(True).tolist())) == 4


@pytest.mark.parametrize(
    ("losses", "error", "words"),
    [
        ([1.0, 2.0], ValueError, "losses must be 4 numbers, got 2. Give one mean loss per bucket"),
        (1.0, ValueError, "losses must be a non-empty one-dimensional array"),
        ([1, 2, 3, 4], TypeError, "losses must be floats"),
        (["a"], TypeError, "losses must be a non-empty one-dimensional array of numbers"),
        (
            [1.0, 2.0, 3.0, math.inf],
            ValueError,
            "losses must be finite, or NaN for a bucket that was not measured",
        ),
    ],
)
def test_bad_bucket_losses_are_refused(losses, error, words):
    with pytest.raises(error, match=words):
        attached()[0].report_bucket_losses(losses)


def test_bucket_losses_need_a_sampler():
    scheduler = RLScheduler(torch.optim.SGD([torch.zeros(1)], lr=0.1), 40, controller=Linear())
    with pytest.raises(ValueError, match="report_bucket_losses needs a sampler"):
        scheduler.report_bucket_losses([1.0])


def test_buckets_make_online_ones():
    made = Buckets.online(100, count=5, seed=3, rate=0.2)
    assert isinstance(made, OnlineBuckets)
    np.testing.assert_array_equal(made.buckets.ids, OnlineBuckets(100, 5, seed=3).buckets.ids)
    made.record([0], [1.0])
    made.record([0], [2.0])
    assert made.running_loss[0] == pytest.approx(1.2)


def test_losses_reach_their_examples_after_a_break_with_workers():
    """Workers had drawn the rest of the epoch when the loop was left."""
    data = TensorDataset(torch.arange(64.0))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = RLScheduler(optimizer, 100, controller=Constant(), on_event=lambda event: None)
    online = OnlineBuckets(64)
    sampler = CurriculumSampler(online, 4, scheduler)
    for _ in range(2):
        for step, (values,) in enumerate(DataLoader(data, batch_sampler=sampler, num_workers=2)):
            optimizer.step()
            scheduler.step(values)
            if step == 13:
                break
    known = np.isfinite(online.running_loss)
    assert known.sum() > 40
    np.testing.assert_array_equal(online.running_loss[known], np.arange(64)[known])
