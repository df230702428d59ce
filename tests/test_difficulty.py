"""Difficulty scores: against slow references, and on real data with wrong labels."""

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from rlsched import (
    forgetting_scores,
    linear_probe_scores,
    loss_history,
    loss_variance_scores,
    reference_loss_scores,
)


def test_the_probe_finds_the_mislabelled():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    features = 2.0 * np.eye(3)[labels] + 0.5 * rng.standard_normal((300, 3))
    noisy = labels.copy()
    noisy[:30] = (labels[:30] + 1) % 3
    worst = np.argsort(linear_probe_scores(features, noisy))[-30:]
    assert np.isin(worst, np.arange(30)).mean() > 0.9


@pytest.mark.parametrize("kind", ["classes", "real", "real vectors"])
def test_the_probe_is_the_left_out_residual(kind):
    rng = np.random.default_rng(0)
    x, classes, real = rng.standard_normal((20, 2)), np.arange(20) % 2, rng.standard_normal((20, 3))
    labels, targets = {
        "classes": (classes, np.eye(2)[classes]),
        "real": (real[:, 0], real[:, :1]),
        "real vectors": (real, real),
    }[kind]
    scores = linear_probe_scores(x, labels, ridge=0.5)
    design = np.c_[x, np.ones(20)]
    for i in range(20):
        rest = np.delete(np.arange(20), i)
        a = design[rest].T @ design[rest] + 0.5 * np.eye(3)
        predicted = design[i] @ np.linalg.solve(a, design[rest].T @ targets[rest])
        assert scores[i] == pytest.approx(np.linalg.norm(targets[i] - predicted))


def test_the_probe_takes_tensors():
    x, y = torch.randn(20, 2, dtype=torch.float64, requires_grad=True), torch.arange(20) % 3
    np.testing.assert_array_equal(linear_probe_scores(x, y), linear_probe_scores(x.detach().numpy(), y.numpy()))
    np.testing.assert_array_equal(linear_probe_scores(x, x), linear_probe_scores(x, x.detach().numpy()))


HISTORY = [[0.1, 0.9, 0.1, 2.0], [0.9, 0.9, 0.1, 0.1], [0.1, 0.9, 0.1, 0.1], [0.9, 0.8, 0.3, 0.7]]


def test_scores_of_a_history_by_hand():
    assert reference_loss_scores(HISTORY).tolist() == [0.9, 0.8, 0.3, 0.7]
    # Learnt and forgotten twice; never learnt; never forgotten; learnt late, forgotten once (ln 2 < 0.7).
    assert forgetting_scores(HISTORY).tolist() == [2.0, 4.0, 0.0, 1.0]
    assert forgetting_scores(HISTORY, threshold=0.75).tolist() == [2.0, 4.0, 0.0, 0.0]
    assert forgetting_scores([[math.log(2)], [0.5], [0.5]]).tolist() == [0.0], "a loss of ln 2 is not learnt"
    assert forgetting_scores([[0.5], [math.log(2)], [0.5]]).tolist() == [1.0]
    np.testing.assert_allclose(loss_variance_scores(HISTORY), [0.16, 0.001875, 0.0075, 0.601875])


RAGGED: Any = [[0.5], [1.0, 2.0]]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: linear_probe_scores(np.zeros((0, 2)), []), ValueError, "features must be a non-empty"),
        (lambda: linear_probe_scores([["a"]], [0]), TypeError, "features must be a non-empty two-dimensional"),
        (lambda: linear_probe_scores([[1.0], [np.nan]], [0, 1]), ValueError, r"features must be finite.*\(1, 0\)"),
        (lambda: linear_probe_scores(np.ones((2, 1)), [0]), ValueError, "labels must have one entry per"),
        (
            lambda: linear_probe_scores(np.ones((2, 1)), [0.5, np.nan]),
            ValueError,
            "labels must be finite.*index 1",
        ),
        (lambda: linear_probe_scores(np.ones((2, 1)), ["a", "b"]), TypeError, "labels must be a non-empty one-d"),
        (
            lambda: linear_probe_scores(np.ones((2, 1)), RAGGED),
            TypeError,
            "labels must be an array of num",
        ),
        (
            lambda: linear_probe_scores(np.ones((2, 1)), np.ones((2, 1, 1))),
            ValueError,
            "labels must be a non-empty",
        ),
        (lambda: linear_probe_scores(np.ones((2, 1)), [0, 1], ridge=0.0), ValueError, "ridge must be a finite"),
        (lambda: reference_loss_scores([[1.0, np.nan]]), ValueError, r"history must be finite.*index \(0, 1\)"),
        (lambda: forgetting_scores([1.0]), ValueError, "history must be a non-empty two-dimensional"),
        (lambda: forgetting_scores([[1.0]], threshold=-1.0), ValueError, "threshold must be a finite number >= 0"),
        (lambda: loss_variance_scores([[1.0, np.inf]]), ValueError, "history must be finite"),
        (lambda: loss_variance_scores([[1.0]]), ValueError, "history must hold 2 epochs at least, got 1"),
    ],
)
def test_bad_input_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def cross_entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def small(seed=0, dropout=0.5):
    """A model, a data set that it can learn, and an optimizer."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    x = torch.randn(50, 4, generator=generator)
    return model, TensorDataset(x, (x[:, 0] > 0).long()), torch.optim.SGD(model.parameters(), lr=0.1)


def run_small(loss=cross_entropy, **settings):
    model, dataset, optimizer = small()
    return loss_history(model, dataset, loss, optimizer, **{"epochs": 3, "batch_size": 16} | settings), model


def test_a_history_is_that_of_a_plain_training_loop():
    """No dropout, so that nothing but the order of the examples is random."""
    model, dataset, optimizer = small(dropout=0.0)
    x, y = dataset.tensors
    orders: list[list[int]] = []

    class Watched(torch.utils.data.Dataset):
        def __len__(self):
            return len(dataset)

        def __getitem__(self, index):
            orders.append(index)
            return dataset[index]

    history = loss_history(model, Watched(), cross_entropy, optimizer, epochs=2, batch_size=16, seed=4)
    twin, _, optimizer = small(dropout=0.0)
    for epoch in range(2):
        order = torch.tensor(orders[100 * epoch : 100 * epoch + 50])
        assert sorted(order.tolist()) == list(range(50)) != order.tolist()
        twin.train()
        for index in order.split(16):
            optimizer.zero_grad()
            cross_entropy(twin, (x[index], y[index])).mean().backward()
            optimizer.step()
        twin.eval()
        np.testing.assert_allclose(history[epoch], cross_entropy(twin, (x, y)).detach().numpy(), rtol=1e-5)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_history_is_a_function_of_its_seed_and_leaves_randomness_and_modes_alone():
    model, dataset, optimizer = small()
    model[1].eval()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = loss_history(model, dataset, cross_entropy, optimizer, epochs=3, batch_size=16)
    assert model.training
    assert not model[1].training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), before)
    assert one.shape == (3, 50)
    same, other = run_small()[0], run_small(seed=1)[0]
    np.testing.assert_array_equal(same, run_small()[0])
    assert not np.array_equal(same, other)


def test_measuring_passes_are_in_eval_mode_without_gradients():
    seen = []

    def loss(model, batch):
        losses = cross_entropy(model, batch)
        seen.append((model.training, losses.requires_grad))
        return losses

    run_small(loss, epochs=1)
    assert seen == [(True, True)] * 4 + [(False, False)] * 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs must be an integer >= 1, got 0"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
        ({"seed": -1}, "seed must be an integer >= 0"),
        (
            {"loss": lambda m, b: cross_entropy(m, b).mean()},
            r"one loss per example \(16,\), got shape \(\): use red",
        ),
        ({"loss": lambda m, b: 0.5}, "one loss per example .*got float"),
        ({"loss": lambda m, b: cross_entropy(m, b) / b[1]}, "loss must be finite on every example, got"),
    ],
)
def test_bad_settings_of_a_history_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        run_small(**settings)


@functools.cache
def noisy_digits(seed):
    """800 real digits, of which a fifth has a wrong label: features, labels, which are wrong."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(x))[:800]
    x, labels, wrong = x[rows], y[rows].copy(), rng.random(800) < 0.2
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6), labels, wrong


@functools.cache
def digits_history(seed, epochs, lr):
    x, labels, _ = noisy_digits(seed)
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 8)
    dataset = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(labels))
    return loss_history(model, dataset, cross_entropy, torch.optim.Adam(model.parameters(), lr=lr), epochs=epochs)


def auc(scores, positive):
    """Chance that a positive example has the higher score, half of it in a tie: all pairs, one by one."""
    difference = scores[positive][:, None] - scores[~positive]
    return (difference > 0).mean() + (difference == 0).mean() / 2


@pytest.mark.parametrize("seed", range(3))
def test_every_score_finds_wrong_labels_in_real_data(seed):
    """AUC over seeds 0-2: probe 0.988-0.989, loss 0.992-0.994, forgetting 0.894-0.905, variance 0.942-0.981."""
    x, labels, wrong = noisy_digits(seed)
    short, long = digits_history(seed, 5, 3e-3), digits_history(seed, 10, 1e-2)
    found = {
        "probe": auc(linear_probe_scores(x, labels), wrong),
        "loss": auc(reference_loss_scores(short), wrong),
        "forgetting": auc(forgetting_scores(short), wrong),
        "variance": auc(loss_variance_scores(long), wrong),
        "early variance": auc(loss_variance_scores(digits_history(seed, 5, 1e-3)), wrong),
    }
    assert found["probe"] > 0.95
    assert found["loss"] > 0.95
    assert found["forgetting"] > 0.85
    assert found["variance"] > 0.9
    assert found["early variance"] < 0.5, "as its docstring warns"
