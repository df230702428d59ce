"""Every family of tasks: what it draws, and what it refuses."""

import dataclasses
import hashlib
import math
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from rlsched.envs.tasks import (
    Autoencoder,
    Characters,
    Digits,
    DigitsCNN,
    Parity,
    Signals,
    Tabular,
    Teacher,
)
from rlsched.envs.tasks.data import FEWEST, DataConfig
from tests.tasks import DATA, LEAVES, configs, family_of, generator, np_state, same


def test_runs_have_the_examples_for_the_passes_that_were_asked_for():
    family = Teacher(epochs=(2.0, 5.0), max_steps=600)
    drawn = [family.sample(np.random.default_rng(seed)) for seed in range(40)]
    free = [config for config in drawn if FEWEST < config.num_examples < family.most_examples]
    epochs = [_passes(config) for config in free]
    assert len(free) > 30
    assert 1.9 < min(epochs) < 2.5, "a part of an example more makes a little less than two"
    assert 4.5 < max(epochs) <= 5.0
    longest = max((c for c in drawn if c.imbalance == 1.0), key=lambda config: config.num_examples)
    assert len(family.build(longest).buckets.ids) == longest.num_examples > 1000, "its pool of examples grew too"


def test_half_of_the_tasks_tell_their_passes_and_may_have_more():
    family = Teacher(epochs=(2.0, 5.0), told_epochs=(10.0, 50.0), max_steps=600)
    drawn = [family.sample(np.random.default_rng(seed)) for seed in range(80)]
    free = [config for config in drawn if FEWEST < config.num_examples < family.most_examples]
    epochs = {told: [_passes(c) for c in free if c.epochs_known == told] for told in (False, True)}
    assert 25 < len(epochs[True]) < 55
    assert 1.9 < min(epochs[False]) <= max(epochs[False]) <= 5.0
    assert 9.5 < min(epochs[True]) < 15.0
    assert 40.0 < max(epochs[True]) <= 50.0
    silent = [Teacher(epochs=(2.0, 5.0)).sample(np.random.default_rng(seed)) for seed in range(20)]
    assert not any(config.epochs_known for config in silent)
    with pytest.raises(ValueError, match=r"told_epochs\[1\] must be .* in .10.0, .* got 5.0"):
        Teacher(told_epochs=(10.0, 5.0))


@pytest.mark.parametrize("family", [Teacher, Digits, Tabular])
def test_tasks_that_are_computed_together_have_as_many_passes_as_any(family):
    """Although the length of their runs is that of the first."""
    drawn = family(epochs=(2.0, 5.0), told_epochs=(10.0, 50.0), max_steps=600)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        first = drawn.sample(rng)
        assert drawn.sample_like(np.random.default_rng(seed), first) == first
        for config in (first, *(drawn.sample_like(rng, first) for _ in range(5))):
            assert config.epochs_known == first.epochs_known
            if FEWEST < config.num_examples < family.most_examples:
                low, high = (10.0, 50.0) if config.epochs_known else (2.0, 5.0)
                assert 0.9 * low < _passes(config) <= high


def _passes(config: DataConfig) -> float:
    return config.num_steps * config.batch_size / config.num_examples


@pytest.mark.parametrize("family", [Digits, DigitsCNN, Autoencoder, Tabular, Signals, Parity, Characters])
def test_no_more_examples_are_asked_for_than_there_are(family):
    drawn = [family(epochs=(1.0, 20.0), max_steps=600).sample(np.random.default_rng(seed)) for seed in range(60)]
    most = max(config.num_examples for config in drawn)
    assert most == family.most_examples
    many = next(config for config in drawn if config.num_examples == most)
    whole = dataclasses.replace(many, imbalance=1.0, **{"num_classes": 10} if family is Digits else {})
    if family is not Tabular:  # whose sets are of four sizes
        assert len(family().build(whole).buckets.ids) == pytest.approx(most, rel=0.01)
    # Batches are such that even all of them are not seen too often, if there are batches so small.
    for config in drawn:
        times = config.num_steps * config.batch_size / family.most_examples
        assert times <= 20.0 or config.batch_size == 8


def test_the_tasks_that_evidence_was_measured_on_are_drawn_as_they_were():
    """Whoever changes what is drawn, or in which order, has to measure docs/evidence.json anew."""
    drawn = [family_of("wide").sample(np.random.default_rng(seed)) for seed in range(20)]
    told = [
        (c.num_steps, c.batch_size, c.num_examples, c.data_seed, c.num_decisions, f"{c.base_lr:.4g}")
        for c in drawn
    ]
    assert hashlib.sha256(repr(told).encode()).hexdigest()[:16] == "f9512b83975478a4"


@pytest.mark.parametrize("name", [*LEAVES, "broad", "short", "wide", "practice"])
def test_settings_and_tasks_follow_the_seed_alone(name):
    family = family_of(name)
    family.build(configs(name)[0])  # the first use imports scikit-learn, which draws a random file name
    python, legacy, torch_state = random.getstate(), np_state(), torch.get_rng_state()
    for config in configs(name)[:4]:
        first, again = family.build(config), family.build(pickle.loads(pickle.dumps(config)))
        assert same(first, again)
        assert not same(first, family.build(dataclasses.replace(config, data_seed=config.data_seed + 1)))
        assert same(first, pickle.loads(pickle.dumps(first)))
    assert family.sample(np.random.default_rng(5)) == configs(name)[0]
    assert random.getstate() == python
    assert np_state() == legacy
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("name", LEAVES)
def test_tasks_are_sound(name):
    family = family_of(name)
    for config in configs(name):
        task = family.build(config)
        model = task.make_model(generator())
        for batch in (task.train[: config.batch_size], task.validation, task.test):
            losses = task.loss(model, batch)
            assert losses.shape == (len(batch[0]),)
            assert losses.isfinite().all()
        assert (task.buckets.sizes > 0).all()
        assert task.buckets.count == family.num_buckets
        assert task.online == (config.bucket_by == "online")
        assert (task.probe is not None) == config.probed
        assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("name", DATA)
def test_settings_are_in_the_documented_ranges(name):
    family = family_of(name)
    for config in (family.sample(np.random.default_rng(seed)) for seed in range(300)):
        assert family.min_steps <= config.num_steps <= family.max_steps
        assert family.min_batch <= config.batch_size <= family.max_batch
        assert 100 % config.num_decisions == 0
        assert abs(math.log10(config.base_lr / family.reference_lr[config.optimizer])) <= 2.0 + 1e-9
        assert config.label_noise == 0.0 or 0.1 <= config.label_noise <= 0.4
        assert config.duplicates == 0.0 or 0.1 <= config.duplicates <= 0.6
        assert config.drift == 0.0 or 0.1 <= config.drift <= 0.6
        assert 0.1 <= config.imbalance <= 1.0
        assert 8 <= getattr(config, "width", 8) <= 256


@pytest.mark.parametrize("name", LEAVES)
def test_tasks_that_are_computed_together_agree_in_what_must(name):
    family = family_of(name)
    for seed, first in enumerate(configs(name)):
        like = family.sample_like(np.random.default_rng(seed), first)
        assert all(getattr(like, field) == getattr(first, field) for field in first.shared)
        one, other = (family.build(config).make_model(generator()) for config in (first, like))
        assert [type(m) for m in one.modules() if not isinstance(m, (nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU))] == [
            type(m) for m in other.modules() if not isinstance(m, (nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU))
        ]
        if not all(isinstance(m, (nn.Linear, nn.Sequential)) for m in one.modules() if list(m.parameters())):
            assert [p.shape for p in one.parameters()] == [p.shape for p in other.parameters()]


@pytest.mark.parametrize("name", LEAVES)
def test_settings_of_another_family_are_refused(name):
    other = configs("digits" if name != "digits" else "parity")[0]
    with pytest.raises(TypeError, match=rf"config must be of type \w+Config, got {type(other).__name__}: build"):
        family_of(name).build(other)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("teacher", {"teacher_activation": "step"}, "teacher_activation must be one of gelu, relu"),
        ("teacher", {"pool_size": 5}, r"pool_size must be an integer >= 20, got 5"),
        ("digits_cnn", {"channels": 0}, r"channels must be an integer in \[1, 256\], got 0"),
        (
            "digits_cnn",
            {"channels": 6, "normalised": True},
            "channels must be a multiple of 4 in a",
        ),
        ("signals", {"channels": 6, "normalised": True}, "channels must be a multiple of 4 in a"),
        ("digits", {"input_scale": 0.0}, r"input_scale must be a finite number in \[0.01, 100"),
        (
            "characters",
            {"input_scale": 2.0},
            r"input_scale must be a finite number in \[1.0, 1.0\].*Inputs are tokens",
        ),
        ("digits", {"input_offset": -1.0}, r"input_offset must be a finite number in \[0.0, 10.0\], got -1"),
        (
            "characters",
            {"input_offset": 1.0},
            r"input_offset must be a finite number in \[0.0, 0.0\].*Inputs are tokens",
        ),
        ("signals", {"model": "rnn"}, "model must be one of cnn, mlp, got 'rnn'"),
        ("characters", {"width": 7}, "width must be even, for two heads, got 7"),
        ("parity", {"num_secret": 99}, "num_secret must be an integer in"),
        ("modular", {"modulus": 3}, r"modulus must be an integer in \[5, 97\], got 3"),
        ("autoencoder", {"code": 65}, r"code must be an integer in \[1, 64\], got 65"),
        ("quadratics", {"condition": 0.5}, r"condition must be a finite number in \[1.0"),
        ("digits", {"optimizer": "sgdm"}, "optimizer must be one of adam, adamw, plain_sgd, sgd"),
        ("digits", {"bucket_by": "domain", "domain_skew": 0.0}, "domain_skew must be > 0"),
    ],
)
def test_bad_settings_are_refused_by_name(name, changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(configs(name)[0], **changes)


@pytest.mark.parametrize(
    "option", [{"normalised": 2.0}, {"input_scales": 0.5}, {"input_scales": 1e3}, {"off_centre": 2.0}]
)
def test_bad_options_of_a_family_are_refused_by_name(option):
    with pytest.raises(ValueError, match=rf"{next(iter(option))} must be a finite number in \["):
        DigitsCNN(**option)


@pytest.mark.parametrize("epochs", [(0.0, 5.0), (5.0, 2.0)])
def test_passes_over_the_data_are_a_range(epochs):
    with pytest.raises(ValueError, match=r"epochs\[[01]\] must be a finite number in \["):
        Digits(epochs=epochs)


def test_a_share_of_post_norm_transformers_is_a_share():
    with pytest.raises(ValueError, match=r"post_norm must be a finite number in \[0.0, 1.0\], got 2"):
        Characters(post_norm=2.0)


def test_tokens_have_no_units():
    with pytest.raises(
        ValueError, match=r"input_scales must be a finite number in \[1.0, 1.0\].*Inputs are tokens"
    ):
        Characters(input_scales=2.0)
    with pytest.raises(ValueError, match=r"off_centre must be a finite number in \[0.0, 0.0\].*Inputs are tokens"):
        Characters(off_centre=0.5)
