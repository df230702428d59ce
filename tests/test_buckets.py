"""Buckets, draws and the sampler."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from rlsched import Buckets, CurriculumSampler, Linear, RLScheduler
from rlsched.draws import BucketDraws
from tests.loops import start

BUCKETS = Buckets.from_scores(np.arange(100.0), count=4)
NOT_BUCKETS: Any = np.zeros(3)


def draws(batch_size=20, seed=0):
    return BucketDraws(BUCKETS, batch_size, seed)


def partition(seed):
    """Some other partition of the same examples."""
    return Buckets.from_scores(np.random.default_rng(seed).random(100), count=4)


def test_scores_make_quantiles():
    buckets = Buckets.from_scores(np.random.default_rng(0).standard_normal(103), count=4)
    assert sorted(buckets.sizes.tolist()) == [25, 26, 26, 26]
    assert buckets.difficulty.tolist() == [0, 1 / 3, 2 / 3, 1]
    assert buckets.shares.sum() == pytest.approx(1.0)


def test_buckets_are_ordered_by_difficulty():
    scores = np.random.default_rng(0).standard_normal(100)
    ids = Buckets.from_scores(scores, count=5).ids
    assert all(scores[ids == k].max() < scores[ids == k + 1].min() for k in range(4))


def test_groups_keep_their_members_and_have_no_order():
    buckets = Buckets.from_groups(np.array([10, -1, 10, 5]))
    assert buckets.ids.tolist() == [2, 0, 2, 1]
    assert buckets.difficulty.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Buckets.from_scores([]), ValueError, "scores must be a non-empty"),
        (lambda: Buckets.from_scores([1.0, np.nan]), ValueError, "scores must be finite.*index 1"),
        (lambda: Buckets.from_scores(["a"]), TypeError, "scores must be a non-empty one-dimensional"),
        (
            lambda: Buckets.from_scores([1.0, 2.0], count=3),
            ValueError,
            r"count must be an integer in \[1, 2\]",
        ),
        (lambda: Buckets.from_groups([0.5]), ValueError, "ids must be integers"),
        (lambda: Buckets.from_groups([[1]]), ValueError, "ids must be a non-empty one-dimensional"),
        (
            lambda: CurriculumSampler(NOT_BUCKETS, 2),
            TypeError,
            "buckets must be an rlsched.Buckets or rlsched.Onl",
        ),
        (lambda: CurriculumSampler(BUCKETS, 0), ValueError, "batch_size must be an integer in"),
        (lambda: CurriculumSampler(BUCKETS, 101), ValueError, "batch_size must be an integer in"),
        (lambda: CurriculumSampler(BUCKETS, 8, seed=-1), ValueError, "seed must be an integer >= 0"),
        (
            lambda: CurriculumSampler(BUCKETS, 8).set_weights([1.0]),
            ValueError,
            "weights must be 4 non-negative",
        ),
        (lambda: CurriculumSampler(BUCKETS, 8).set_weights([0.0] * 4), ValueError, "not all zero"),
        (lambda: CurriculumSampler(BUCKETS, 8, NOT_BUCKETS), TypeError, "scheduler must be an rlsched.RLSch"),
        (lambda: BUCKETS.probe(0), ValueError, "per_bucket must be an integer >= 1, got 0"),
        (lambda: BUCKETS.probe(2, seed=-1), ValueError, "seed must be an integer >= 0, got -1"),
        (
            lambda: draws().regroup(Buckets.from_scores(np.ones(99))),
            ValueError,
            "same 100 examples into 4 buckets",
        ),
        (lambda: draws().regroup(Buckets.from_scores(np.ones(100), 3)), ValueError, "got 100 examples in 3"),
        (
            lambda: draws().regroup(Buckets(BUCKETS.ids // 2, BUCKETS.difficulty)),
            ValueError,
            "sizes .50, 50, 0, 0",
        ),
    ],
)
def test_bad_input_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_counts_follow_the_weights_within_one():
    draws, weights = BucketDraws(BUCKETS, 32, seed=0), np.array([0.1, 0.2, 0.3, 0.4])
    counts = np.array([np.bincount(ids, minlength=4) for ids in draws.draw(weights, 400)[1]])
    assert (np.abs(counts - 32 * weights) < 1).all()
    np.testing.assert_allclose(counts.mean(axis=0), 32 * weights, atol=0.1)


def test_drawn_examples_belong_to_their_buckets():
    indices, ids = BucketDraws(BUCKETS, 64, seed=0).draw(np.array([0.7, 0.0, 0.1, 0.2]))
    np.testing.assert_array_equal(BUCKETS.ids[indices], ids)
    assert (ids != 1).all()


def test_natural_weights_are_a_pass_over_the_data():
    drawn, _ = BucketDraws(BUCKETS, 20, seed=0).draw(BUCKETS.shares, 5)
    assert sorted(drawn.ravel().tolist()) == list(range(100))


def test_a_bucket_larger_than_its_data_repeats_it_evenly():
    draws = BucketDraws(BUCKETS, 100, seed=0)
    indices, _ = draws.draw(np.array([1.0, 0.0, 0.0, 0.0]))
    assert np.bincount(indices[0]).tolist() == [4] * 25


def test_the_stream_is_the_same_however_it_is_divided():
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    whole, _ = BucketDraws(BUCKETS, 24, seed=0).draw(weights, 30)
    parts = BucketDraws(BUCKETS, 24, seed=0)
    np.testing.assert_array_equal(whole, np.concatenate([parts.draw(weights, n)[0] for n in (1, 9, 1, 1, 18)]))


def test_the_stream_of_a_seed_never_changes():
    """Trained policies and reports refer to runs by their seed."""
    stream = BucketDraws(Buckets.from_scores(np.arange(10.0), count=3), 5, seed=11)
    drawn = [stream.draw(np.array([0.2, 0.3, 0.5]))[0][0].tolist() for _ in range(6)]
    assert drawn == [
        [2, 6, 8, 7, 9], [0, 4, 8, 7, 9], [3, 5, 9, 8, 7], [1, 4, 5, 8, 7], [3, 6, 9, 8, 9], [2, 4, 5, 7, 8],
    ]  # fmt: skip


def test_drawing_by_hand_gives_the_same_stream():
    weights, whole, by_hand = np.array([0.1, 0.2, 0.3, 0.4]), draws(24), draws(24)
    for _ in range(20):
        (indices,), (ids,) = whole.draw(weights)
        positions = (by_hand.offsets(1)[0] + np.arange(24)) / 24
        np.testing.assert_array_equal(ids, np.searchsorted(np.cumsum(weights), positions, side="right"))
        for bucket in range(4):
            np.testing.assert_array_equal(indices[ids == bucket], by_hand.take(bucket, int((ids == bucket).sum())))


def test_regrouped_draws_come_from_the_new_buckets():
    stream, weights = draws(), np.array([0.1, 0.2, 0.3, 0.4])
    for seed in range(5):
        buckets = partition(seed)
        stream.regroup(buckets)
        indices, ids = stream.draw(weights, 7)
        np.testing.assert_array_equal(buckets.ids[indices], ids)


@pytest.mark.parametrize("batches", [1, 2, 3, 7])
def test_regrouping_goes_on_with_the_pass_over_the_data(batches):
    for seed in range(10):
        stream, drawn = draws(12, seed), np.zeros(100, dtype=int)
        for turn in range(40):
            for _ in range(batches):
                (indices,), _ = stream.draw(BUCKETS.shares)
                drawn += np.bincount(indices, minlength=100)
                assert drawn.min() >= 1 or drawn.max() <= 2
            stream.regroup(partition((seed, turn)))


def test_after_regrouping_the_least_drawn_come_first():
    stream, drawn, shuffled = draws(), np.zeros(100, dtype=int), 0
    for seed in range(8):
        # Several passes over some buckets, a part of one over others.
        indices, _ = stream.draw(np.array([0.9, 0.06, 0.03, 0.01]), 5 + seed)
        drawn += np.bincount(indices.ravel(), minlength=100)
        buckets = partition(seed)
        stream.regroup(buckets)
        for bucket in range(4):
            order = stream.take(bucket, 25)
            assert sorted(order) == np.flatnonzero(buckets.ids == bucket).tolist()
            assert (np.diff(drawn[order]) >= 0).all()
            shuffled += (np.diff(order[drawn[order] == drawn[order[0]]]) < 0).any()
        drawn += 1
    assert shuffled > 16, "in random order where that is equal"


def test_equal_seeds_give_equal_draws_and_others_do_not():
    one, two, other = (BucketDraws(BUCKETS, 16, seed) for seed in (3, 3, 4))
    first = [one.draw(BUCKETS.shares)[0] for _ in range(10)]
    assert np.array_equal(first, [two.draw(BUCKETS.shares)[0] for _ in range(10)])
    assert not np.array_equal(first, [other.draw(BUCKETS.shares)[0] for _ in range(10)])


def test_a_loader_draws_with_the_sampler():
    sampler = CurriculumSampler(BUCKETS, 10, seed=1)
    sampler.set_weights([0.0, 0.0, 0.0, 2.0])
    batches = list(DataLoader(TensorDataset(torch.arange(100)), batch_sampler=sampler))
    assert len(batches) == len(sampler) == 10
    assert all((batch[0] >= 75).all() for batch in batches)


def test_a_stream_continues_from_its_state():
    one, other = BucketDraws(BUCKETS, 7, seed=1), BucketDraws(BUCKETS, 7, seed=99)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    for _ in range(23):
        one.draw(weights)
    other.load_state_dict(one.state_dict())
    for _ in range(30):
        np.testing.assert_array_equal(one.draw(weights), other.draw(weights))


def test_a_regrouped_stream_continues_from_its_state():
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    one, other = draws(7, seed=1), draws(7, seed=99)
    fresh = one.state_dict()
    for seed in range(4):
        one.draw(weights, 9)
        one.regroup(partition(seed))
    one.draw(weights, 3)
    other.load_state_dict(one.state_dict())
    for stream in (one, other):
        stream.draw(weights, 2)
        stream.regroup(partition(5))
    np.testing.assert_array_equal(one.draw(weights, 30), other.draw(weights, 30))
    other.load_state_dict(fresh)  # before any regrouping: the buckets it was made with
    np.testing.assert_array_equal(other.draw(weights, 30), draws(7, seed=1).draw(weights, 30))


def test_a_regrouped_state_of_other_data_is_refused_and_changes_nothing():
    one = BucketDraws(Buckets.from_scores(np.arange(80.0)), 7, seed=1)
    one.regroup(Buckets.from_scores(-np.arange(80.0)))
    other, untouched = draws(), draws()
    with pytest.raises(ValueError, match="same 100 examples into 4 buckets, got 80"):
        other.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(other.draw(BUCKETS.shares, 9), untouched.draw(BUCKETS.shares, 9))


def test_a_probe_is_a_fixed_sample_of_each_bucket():
    buckets = Buckets.from_groups(np.repeat([0, 1, 2], [50, 3, 47]))
    probe = buckets.probe(per_bucket=5, seed=3)
    assert buckets.ids[probe].tolist() == [0] * 5 + [1] * 3 + [2] * 5
    assert len(set(probe.tolist())) == 13
    np.testing.assert_array_equal(probe, buckets.probe(per_bucket=5, seed=3))
    drawn = np.concatenate([buckets.probe(per_bucket=5, seed=seed) for seed in range(200)])
    counts = np.bincount(drawn, minlength=100)
    assert counts[50:53].tolist() == [200] * 3
    assert abs(counts[:50] - 20).max() < 20, "every example has the same chance"


def test_a_state_of_other_buckets_is_refused():
    same_sizes = Buckets.from_scores(-np.arange(100.0), count=4)
    for buckets in (Buckets.from_scores(np.arange(100.0), count=2), same_sizes):
        state = CurriculumSampler(buckets, 7).state_dict()
        with pytest.raises(ValueError, match=r"the state is of other buckets \(sizes"):
            CurriculumSampler(BUCKETS, 7).load_state_dict(state)


def attached(**arguments):
    """A sampler whose batches a scheduler accounts for, by hand."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    return CurriculumSampler(BUCKETS, 8, RLScheduler(optimizer, 9999, controller=Linear()), **arguments)


def test_losses_are_credited_to_the_batches_in_order():
    sampler = attached()
    drawn = [BUCKETS.ids[sampler.draw()] for _ in range(3)]
    np.testing.assert_array_equal(sampler.account_for(np.ones(8))[1], drawn[0])
    assert sampler.account_for(np.ones(1))[1] is None, "a mean loss, which uses up its batch all the same"
    np.testing.assert_array_equal(sampler.account_for(np.ones(8))[1], drawn[2])
    assert sampler.account_for(np.ones(8))[1] is None, "nothing is pending"
    sampler.draw()
    with pytest.raises(ValueError, match=r"one value per example of the step's 1 batches \(8\), got 5"):
        sampler.account_for(np.ones(5))


def test_accumulated_batches_are_accounted_for_together():
    sampler = attached(batches_per_step=2)
    drawn = [BUCKETS.ids[sampler.draw()] for _ in range(4)]
    np.testing.assert_array_equal(sampler.account_for(np.ones(16))[1], np.concatenate(drawn[:2]))
    with pytest.raises(ValueError, match=r"the step's 2 batches \(16\), got 8"):
        sampler.account_for(np.ones(8))


def test_a_refused_loss_leaves_its_batch_pending():
    sampler = attached()
    drawn = BUCKETS.ids[sampler.draw()]
    with pytest.raises(ValueError, match="one value per example"):
        sampler.account_for(np.ones(7))
    np.testing.assert_array_equal(sampler.account_for(np.ones(8))[1], drawn)


def test_accumulation_goes_on_over_the_end_of_an_epoch():
    sampler = attached(batches_per_step=5)  # an epoch has 12 batches
    loader = DataLoader(TensorDataset(torch.arange(100)), batch_sampler=sampler)
    waiting: list[np.ndarray] = []
    for _ in range(3):
        for (index,) in loader:
            waiting.append(BUCKETS.ids[index.numpy()])
            if len(waiting) == 5:
                np.testing.assert_array_equal(sampler.account_for(np.ones(40))[1], np.concatenate(waiting))
                waiting.clear()


def test_batches_of_an_abandoned_epoch_are_forgotten():
    sampler = attached()
    epoch = iter(sampler)
    next(epoch), next(epoch)
    index = np.array(next(iter(sampler)))
    np.testing.assert_array_equal(sampler.account_for(np.ones(8))[1], BUCKETS.ids[index])


def test_the_state_of_something_else_is_refused():
    with pytest.raises(ValueError, match="not one of a CurriculumSampler"):
        CurriculumSampler(BUCKETS, 8).load_state_dict({})


def test_batches_that_no_step_accounts_for_are_noticed():
    sampler = attached()
    for _ in range(1024):
        sampler.draw()
    with pytest.raises(ValueError, match=r"1024 batches were drawn that no scheduler\.step accounted for"):
        sampler.draw()
    alone = CurriculumSampler(BUCKETS, 8)
    for _ in range(2000):
        alone.draw()


def test_loader_workers_draw_ahead_but_losses_find_their_batches():
    sampler = attached()
    dataset = TensorDataset(torch.arange(100))
    for (index,) in DataLoader(dataset, batch_sampler=sampler, num_workers=1):
        np.testing.assert_array_equal(sampler.account_for(np.ones(8))[1], BUCKETS.ids[index.numpy()])


def test_scores_and_groups_may_be_tensors_of_a_graph():
    scores = torch.arange(6.0, requires_grad=True) * 2
    assert Buckets.from_scores(scores, count=2).ids.tolist() == [0, 0, 0, 1, 1, 1]
    assert Buckets.from_groups(torch.tensor([2, 2, 1])).ids.tolist() == [1, 1, 0]


def test_large_group_labels_stay_apart():
    assert Buckets.from_groups([2**60, 2**60 + 1]).count == 2


def test_the_state_of_batches_of_another_size_is_refused():
    one, other = (
        CurriculumSampler(
            Buckets.from_scores(np.arange(64.0)), size, RLScheduler(start()[1], 40, controller=Linear())
        )
        for size in (8, 4)
    )
    one.draw()
    with pytest.raises(ValueError, match="of batches of 8 examples on all ranks, this sampler's have 4"):
        other.load_state_dict(one.state_dict())
