"""The diffusion family: what its examples are, and what every family must satisfy."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from rlsched.envs.population import Population
from rlsched.envs.tasks.diffusion import INPUTS, Diffusion, DiffusionConfig, diffuse, embed, signal
from rlsched.envs.tasks.digits import load_digits
from tests import tasks as families

PLAIN = DiffusionConfig(
    data_seed=3, num_steps=100, num_decisions=10, batch_size=32, optimizer="adam", base_lr=0.003, num_examples=800
)


def build(**changes):
    return Diffusion().build(dataclasses.replace(PLAIN, **changes))


def clean_images(inputs, noise):
    """The image in each example, from its input and its target."""
    share = signal(np.round(1000 * inputs[:, 64].numpy()))[:, None]
    return (inputs[:, :64].numpy() - np.sqrt(1 - share) * noise.numpy()) / np.sqrt(share)


def places(inputs, noise):
    """Which image of the digits each example is of, where enough of it is left to tell."""
    images = load_digits()[0] / load_digits()[0].std()
    told = inputs[:, 64] < 0.9
    found = clean_images(inputs[told], noise[told])
    nearest = (np.square(images).sum(axis=1) - 2.0 * found @ images.T).argmin(axis=1)
    np.testing.assert_allclose(found, images[nearest], atol=1e-3)
    return nearest


# --- Its examples ---


def test_noise_and_image_make_up_the_input_as_the_schedule_says():
    images = np.random.default_rng(0).standard_normal((50, 64))
    inputs, noise = diffuse(images, np.random.default_rng(1))
    assert inputs.shape == (50, INPUTS)
    for row in range(50):
        time = round(1000 * inputs[row, 64])
        share = (np.cos((time / 1000 + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2
        np.testing.assert_allclose(inputs[row, :64], share**0.5 * images[row] + (1 - share) ** 0.5 * noise[row])
        np.testing.assert_allclose(inputs[row, 64:], embed(np.array([time]))[0])


def test_timesteps_are_spread_evenly_and_told_apart():
    inputs, _ = diffuse(np.zeros((2000, 64)), np.random.default_rng(0))
    times = np.round(1000 * inputs[:, 64]).astype(int)
    np.testing.assert_array_equal(np.bincount(times), [0, *[2] * 1000])
    assert len(np.unique(embed(np.arange(1, 1001)).round(3), axis=0)) == 1000
    assert np.abs(embed(np.arange(1001))).max() <= 1.0


def test_the_signal_falls_to_nothing():
    shares = signal(np.arange(1001))
    assert shares[0] == 1.0
    assert shares[-1] < 1e-12
    assert (np.diff(shares) < 0).all()


@pytest.mark.parametrize("num_examples", [800, 3000])
def test_buckets_are_clusters_of_timesteps_from_high_noise_to_low(num_examples):
    task = build(num_examples=num_examples)
    times = task.train.tensors[0][:, 64].numpy()
    ends = [
        (times[task.buckets.ids == bucket].min(), times[task.buckets.ids == bucket].max()) for bucket in range(4)
    ]
    assert all(easier[0] >= harder[1] for easier, harder in itertools.pairwise(ends))
    assert np.ptp(task.buckets.sizes) <= 1
    np.testing.assert_allclose(task.buckets.difficulty, [0, 1 / 3, 2 / 3, 1])


def test_no_image_is_in_two_parts_however_often_it_comes():
    task = build(num_examples=3000)
    assert len(task.train) == 3000
    train, validation, test = (set(places(*part)) for part in (task.train.tensors, task.validation, task.test))
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert 900 < len(train) <= 1000, "three passes over a thousand images"
    assert len(set(families.rows(task.train.tensors))) == 3000, "each with noise of its own"
    assert len(task.test[0]) == 3 * 359


def test_passes_have_the_same_wrong_targets_buckets_and_shift():
    settings = {"num_examples": 2000, "label_noise": 0.2, "drift": 0.3, "probed": True}
    task = build(**settings, bucket_by="domain", domain_skew=1.0)
    assert len(task.train) == len(task.buckets) == len(task.drifted) == 2000
    np.testing.assert_array_equal(task.buckets.ids[:1000], task.buckets.ids[1000:])
    assert task.probe is not None
    assert task.probe.max() >= 1000
    assert build(num_examples=2000, bucket_by="online").online


def test_noise_is_harder_to_find_where_there_is_less():
    task = build(num_steps=300, width=64, num_examples=3000)
    population = Population([task])
    population.reset([0])
    steps, shares = np.array([300]), task.buckets.shares[None]
    window = population.advance(steps, 1 - np.arange(300)[None] / 300, shares)
    assert (np.diff(window.bucket_loss[0]) > 0).all()
    assert population.test_loss()[0] < 0.7, "of the variance of the noise, 1"


def test_there_are_no_classes_to_be_imbalanced():
    assert all(Diffusion().sample(np.random.default_rng(seed)).imbalance == 1.0 for seed in range(20))


def test_a_wrong_target_is_the_noise_of_another_example():
    right, wrong = build(), build(label_noise=0.3)
    noise, found = right.train.tensors[1], wrong.train.tensors[1]
    moved = (noise != found).any(dim=1)
    assert 0.2 < float(moved.float().mean()) < 0.4
    assert {row.numpy().tobytes() for row in found[moved]} <= {row.numpy().tobytes() for row in noise}
    assert torch.equal(right.test[1], wrong.test[1])
