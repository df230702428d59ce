"""Buckets, draws, difficulty and the sampler."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from rlsched import Buckets, CurriculumSampler, Linear, RLScheduler, linear_probe_scores
from rlsched.draws import BucketDraws

BUCKETS = Buckets.from_scores(np.arange(100.0), count=4)
NOT_BUCKETS: Any = np.zeros(3)


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
        (lambda: CurriculumSampler(NOT_BUCKETS, 2), TypeError, "buckets must be an rlsched.Buckets"),
        (lambda: CurriculumSampler(BUCKETS, 0), ValueError, "batch_size must be an integer in"),
        (lambda: CurriculumSampler(BUCKETS, 101), ValueError, "batch_size must be an integer in"),
        (lambda: CurriculumSampler(BUCKETS, 8, seed=-1), ValueError, "seed must be an integer >= 0"),
        (
            lambda: CurriculumSampler(BUCKETS, 8).set_weights([1.0]),
            ValueError,
            "weights must be 4 non-negative",
        ),
        (lambda: CurriculumSampler(BUCKETS, 8).set_weights([0.0] * 4), ValueError, "not all zero"),
        (lambda: linear_probe_scores(np.zeros((0, 2)), []), ValueError, "features must be a non-empty"),
        (lambda: linear_probe_scores([["a"]], [0]), TypeError, "features must be a non-empty two-dimensional"),
        (lambda: linear_probe_scores(np.ones((2, 1)), [0.5, 1]), ValueError, "labels must be integers, got 0.5"),
        (lambda: CurriculumSampler(BUCKETS, 8, NOT_BUCKETS), TypeError, "scheduler must be an rlsched.RLSch"),
        (lambda: linear_probe_scores(np.ones((2, 1)), [0]), ValueError, "labels must have one entry per"),
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


def test_equal_seeds_give_equal_draws_and_others_do_not():
    one, two, other = (BucketDraws(BUCKETS, 16, seed) for seed in (3, 3, 4))
    first = [one.draw(BUCKETS.shares)[0] for _ in range(10)]
    assert np.array_equal(first, [two.draw(BUCKETS.shares)[0] for _ in range(10)])
    assert not np.array_equal(first, [other.draw(BUCKETS.shares)[0] for _ in range(10)])


def test_difficulty_finds_the_mislabelled():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    features = 2.0 * np.eye(3)[labels] + 0.5 * rng.standard_normal((300, 3))
    noisy = labels.copy()
    noisy[:30] = (labels[:30] + 1) % 3
    worst = np.argsort(linear_probe_scores(features, noisy))[-30:]
    assert np.isin(worst, np.arange(30)).mean() > 0.9


def test_difficulty_is_the_left_out_residual():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((20, 2)), np.arange(20) % 2
    scores = linear_probe_scores(x, labels, ridge=0.5)
    design, target = np.c_[x, np.ones(20)], np.eye(2)[labels]
    for i in range(20):
        rest = np.delete(np.arange(20), i)
        a = design[rest].T @ design[rest] + 0.5 * np.eye(3)
        predicted = design[i] @ np.linalg.solve(a, design[rest].T @ target[rest])
        assert scores[i] == pytest.approx(np.linalg.norm(target[i] - predicted))


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
    np.testing.assert_array_equal(sampler.take_bucket_ids(8), drawn[0])
    assert sampler.take_bucket_ids(1) is None, "a mean loss, which uses up its batch all the same"
    np.testing.assert_array_equal(sampler.take_bucket_ids(8), drawn[2])
    assert sampler.take_bucket_ids(8) is None, "nothing is pending"
    sampler.draw()
    with pytest.raises(ValueError, match=r"one value per example of the step's 1 batches \(8\), got 5"):
        sampler.take_bucket_ids(5)


def test_accumulated_batches_are_accounted_for_together():
    sampler = attached(batches_per_step=2)
    drawn = [BUCKETS.ids[sampler.draw()] for _ in range(4)]
    np.testing.assert_array_equal(sampler.take_bucket_ids(16), np.concatenate(drawn[:2]))
    with pytest.raises(ValueError, match=r"the step's 2 batches \(16\), got 8"):
        sampler.take_bucket_ids(8)


def test_a_refused_loss_leaves_its_batch_pending():
    sampler = attached()
    drawn = BUCKETS.ids[sampler.draw()]
    with pytest.raises(ValueError, match="one value per example"):
        sampler.take_bucket_ids(7)
    np.testing.assert_array_equal(sampler.take_bucket_ids(8), drawn)


def test_accumulation_goes_on_over_the_end_of_an_epoch():
    sampler = attached(batches_per_step=5)  # an epoch has 12 batches
    loader = DataLoader(TensorDataset(torch.arange(100)), batch_sampler=sampler)
    waiting: list[np.ndarray] = []
    for _ in range(3):
        for (index,) in loader:
            waiting.append(BUCKETS.ids[index.numpy()])
            if len(waiting) == 5:
                np.testing.assert_array_equal(sampler.take_bucket_ids(40), np.concatenate(waiting))
                waiting.clear()


def test_batches_of_an_abandoned_epoch_are_forgotten():
    sampler = attached()
    epoch = iter(sampler)
    next(epoch), next(epoch)
    index = np.array(next(iter(sampler)))
    np.testing.assert_array_equal(sampler.take_bucket_ids(8), BUCKETS.ids[index])


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
        np.testing.assert_array_equal(sampler.take_bucket_ids(8), BUCKETS.ids[index.numpy()])


def test_scores_and_groups_may_be_tensors_of_a_graph():
    scores = torch.arange(6.0, requires_grad=True) * 2
    assert Buckets.from_scores(scores, count=2).ids.tolist() == [0, 0, 0, 1, 1, 1]
    assert Buckets.from_groups(torch.tensor([2, 2, 1])).ids.tolist() == [1, 1, 0]


def test_large_group_labels_stay_apart():
    assert Buckets.from_groups([2**60, 2**60 + 1]).count == 2
