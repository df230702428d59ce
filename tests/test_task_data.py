"""What is the matter with the data of tasks, that it is as asked, and that their runs train."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from rlsched.envs import TorchRun
from rlsched.envs.tasks import (
    FAMILIES,
    Autoencoder,
    Characters,
    CharactersConfig,
    Digits,
    DigitsCNN,
    DigitsCNNConfig,
    ModularConfig,
    Signals,
)
from rlsched.envs.tasks import characters as characters_module
from rlsched.envs.tasks.data import FARTHEST, DataConfig
from tests.tasks import CLEAN, DATA, clean, configs, family_of, generator, rows


@pytest.mark.parametrize("name", ["digits", "digits_cnn", "autoencoder"])
@pytest.mark.parametrize("units", [{"input_scale": 0.25}, {"input_scale": 4.0}, {"input_offset": 2.0}])
def test_units_make_nothing_harder(name, units):
    """Nor easier: the buckets are those of standardised inputs."""
    before = clean(name, duplicates=0.3, num_examples=200)
    after = clean(name, duplicates=0.3, num_examples=200, **units)
    np.testing.assert_array_equal(after.buckets.ids, before.buckets.ids)


@pytest.mark.parametrize("family", [DigitsCNN, Signals])
def test_networks_are_normalised_as_often_as_asked_and_nothing_else_changes(family):
    drawn = [family(normalised=1.0).sample(np.random.default_rng(seed)) for seed in range(12)]
    plain = [family().sample(np.random.default_rng(seed)) for seed in range(12)]
    assert [dataclasses.replace(config, normalised=False) for config in drawn] == plain
    convolutional = [getattr(config, "model", "cnn") == "cnn" for config in drawn]
    assert [config.normalised for config in drawn] == convolutional
    for config, expected in zip(drawn, convolutional, strict=True):
        model = family().build(config).make_model(generator())
        assert any(isinstance(layer, nn.GroupNorm) for layer in model) == expected


def test_transformers_are_post_norm_as_often_as_asked_and_nothing_else_changes():
    drawn = [Characters(post_norm=1.0).sample(np.random.default_rng(seed)) for seed in range(12)]
    plain = [Characters().sample(np.random.default_rng(seed)) for seed in range(12)]
    assert [dataclasses.replace(config, norm_first=True) for config in drawn] == plain
    assert [config.norm_first for config in drawn] == [config.model == "gru" for config in plain]
    post_norm = next(config for config in drawn if not config.norm_first)
    assert isinstance(Characters().build(post_norm).make_model(generator()).norm, nn.Identity)


@pytest.mark.parametrize("family", [Digits, Autoencoder])
def test_inputs_are_off_centre_as_often_as_asked_and_nothing_else_changes(family):
    drawn = [family(off_centre=1.0).sample(np.random.default_rng(seed)) for seed in range(12)]
    plain = [family().sample(np.random.default_rng(seed)) for seed in range(12)]
    # What is drawn after it differs, as one number more was; the common settings are drawn before.
    for config, other in zip(drawn, plain, strict=True):
        assert 0.0 < config.input_offset <= FARTHEST
        assert other.input_offset == 0.0
        for field in dataclasses.fields(DataConfig):
            if field.name != "input_offset":
                assert getattr(config, field.name) == getattr(other, field.name)


def test_practice_has_networks_and_inputs_that_the_suite_has_not():
    def drawn(name):
        rng = np.random.default_rng(0)
        return [FAMILIES[name]().sample(rng) for _ in range(400)]

    practice, wide = drawn("practice"), drawn("wide")
    networks = [config.normalised for config in practice if isinstance(config, DigitsCNNConfig)]
    assert 0.2 < np.mean(networks) < 0.8
    transformers = [config for config in practice if getattr(config, "model", "") == "transformer"]
    assert {config.norm_first for config in transformers} == {True, False}
    scales = [config.input_scale for config in practice]
    assert min(scales) < 0.3 < 3.0 < max(scales)
    assert max(abs(math.log(scale)) for scale in scales) <= math.log(4.0) + 1e-9
    off_centre = [config.input_offset > 0.0 for config in practice]
    assert 0.3 < np.mean(off_centre) < 0.7
    for config in practice:
        if isinstance(config, (CharactersConfig, ModularConfig)):
            assert (config.input_scale, config.input_offset) == (1.0, 0.0)
    assert {(config.input_scale, config.input_offset) for config in wide} == {(1.0, 0.0)}
    assert not any(getattr(config, "normalised", False) for config in wide)
    assert all(getattr(config, "norm_first", True) for config in wide)


@pytest.mark.parametrize("name", ["digits", "teacher", "digits_cnn", "autoencoder"])
def test_inputs_are_scaled_as_asked_and_targets_are_not(name):
    before, after = clean(name), clean(name, input_scale=3.0, drift=0.5)
    for part in ("train", "validation", "test"):
        one, other = (getattr(task, part) for task in (before, after))
        (x, y), (scaled, same) = (getattr(held, "tensors", held) for held in (one, other))
        torch.testing.assert_close(scaled, 3.0 * x)
        assert torch.equal(y, same)
    spread = [inputs.std().item() for inputs in (before.train.tensors[0], after.drifted.tensors[0])]
    assert spread[1] == pytest.approx(3.0 * spread[0], rel=0.05)


@pytest.mark.parametrize("name", ["digits", "teacher", "digits_cnn", "autoencoder"])
def test_inputs_have_the_mean_asked_for_before_and_after_a_shift(name):
    before, after = clean(name, drift=0.5), clean(name, input_offset=2.0, input_scale=3.0, drift=0.5)
    spread = before.train.tensors[0].double().std(correction=0).item()
    for part in ("train", "validation", "test", "drifted"):
        one, other = (getattr(task, part) for task in (before, after))
        (x, y), (moved, same) = (getattr(held, "tensors", held) for held in (one, other))
        torch.testing.assert_close(moved, 3.0 * (x + 2.0 * spread), rtol=1e-5, atol=1e-5)
        assert torch.equal(y, same)


@pytest.mark.parametrize("name", DATA)
def test_parts_are_disjoint(name):
    for config in configs(name):
        if getattr(config, "source", "") == "iris":
            continue  # two of its flowers are equal
        task = family_of(name).build(config)
        train, validation, test = (set(rows(part)) for part in (task.train.tensors, task.validation, task.test))
        assert not train & validation
        assert not train & test
        assert not validation & test


@pytest.mark.parametrize("name", DATA)
def test_targets_are_wrong_as_often_as_asked_and_never_in_the_test(name):
    before = clean(name)
    noisy = clean(name, label_noise=0.3)
    judged_by_noise = clean(name, label_noise=0.3, noisy_validation=True)

    def wrong(one, other):
        return (one != other).reshape(len(one), -1).any(1).float().mean().item()

    share = wrong(before.train.tensors[1], noisy.train.tensors[1])
    assert abs(share - 0.3) < 4 * math.sqrt(0.21 / len(noisy.train)) + 0.01
    assert torch.equal(before.train.tensors[0], noisy.train.tensors[0])
    assert torch.equal(before.test[1], judged_by_noise.test[1])
    assert torch.equal(before.validation[1], noisy.validation[1])
    share = wrong(before.validation[1], judged_by_noise.validation[1])
    assert abs(share - 0.3) < 4 * math.sqrt(0.21 / len(before.validation[1])) + 0.01


@pytest.mark.parametrize("name", ["digits", "digits_cnn", "signals"])
def test_classes_are_imbalanced_as_asked(name):
    index = next(i for i, config in enumerate(configs(name)) if getattr(config, "num_classes", 9) > 4)
    even, uneven = (clean(name, index, batch_size=8, imbalance=share) for share in (1.0, 0.1))
    even_counts, counts = (np.sort(np.bincount(task.train.tensors[1])) for task in (even, uneven))
    assert counts[0] / counts[-1] < 0.3 < 0.5 < even_counts[0] / even_counts[-1]
    assert torch.equal(even.test[1], uneven.test[1])


@pytest.mark.parametrize("name", DATA)
def test_a_share_of_the_examples_are_copies_as_asked(name):
    distinct, copies = (clean(name, duplicates=share, batch_size=16, bucket_by="online") for share in (0.0, 0.5))
    count = len(copies.train)
    assert len(set(rows(distinct.train.tensors))) >= 0.98 * count  # of iris, two are equal
    share = 1 - len(set(rows(copies.train.tensors))) / count
    assert 0.3 < share < 0.65


@pytest.mark.parametrize("name", DATA)
def test_domains_are_there_when_asked(name):
    plain, skewed = clean(name, batch_size=16), clean(name, batch_size=16, domain_skew=3.0, bucket_by="domain")
    assert len(skewed.test[0]) < 0.8 * len(plain.test[0])
    assert (skewed.buckets.difficulty == 0.5).all()
    inputs, ids = skewed.train.tensors[0], skewed.buckets.ids
    if not inputs.is_floating_point():
        return  # of characters, see below
    # Inputs of a domain are as far from clean ones as the noise of the domain: the first has none.
    spread = [float(inputs[ids == k].double().var()) for k in range(4)]
    assert spread[0] < spread[2] < spread[3]


def test_domains_of_characters_are_modules():
    task = clean("characters", domain_skew=3.0, bucket_by="domain")
    texts = {module: characters_module._load(module)[1] for module in characters_module.MODULES}
    found = []
    for bucket in range(4):
        inputs = task.train.tensors[0].numpy()[task.buckets.ids == bucket]
        windows = ["".join(characters_module.VOCABULARY[token] for token in row) for row in inputs]
        found.append([module for module, text in texts.items() if all(window in text for window in windows)])
    assert all(len(modules) == 1 for modules in found)
    assert len({modules[0] for modules in found}) == 4


@pytest.mark.parametrize("name", DATA)
def test_the_data_shift_during_the_run_when_asked(name):
    assert clean(name).drifted is None
    task = clean(name, drift=0.4)
    assert task.drift_until == round(0.4 * task.config.num_steps)
    assert len(task.drifted) == len(task.train)
    inputs, targets = (torch.equal(a, b) for a, b in zip(task.drifted.tensors, task.train.tensors, strict=True))
    assert not (inputs and targets)


@pytest.mark.parametrize("name", DATA)
def test_clean_tasks_train(name):
    """Linear decay from the reference learning rate lowers the validation loss of most tasks, untuned."""
    family = family_of(name, misjudged=1.0)
    rng, gains = np.random.default_rng(2), []
    steps, count = (100, 2) if name == "characters" else (250, 3)
    optimizer = "adam" if name in ("modular", "parity") else "sgd"
    for _ in range(count):
        easy = {"parity": {"num_secret": 2, "num_bits": 16}, "modular": {"modulus": 31}}.get(name, {})
        config = dataclasses.replace(
            family.sample(rng), **CLEAN, **easy, num_examples=1000, batch_size=32, num_steps=steps,
            num_decisions=10, optimizer=optimizer, base_lr=family.reference_lr[optimizer],
        )  # fmt: skip
        run = TorchRun(family.build(config), frozenset())
        run.reset(0)
        before = run.validation_loss()
        run.advance(steps, 1 - np.arange(steps) / steps, run.task.buckets.shares)
        gains.append(math.log(before / run.validation_loss()))
    assert np.median(gains) > 0.1


@pytest.mark.parametrize("scorer", ["probe", "reference_loss", "forgetting"])
def test_the_hardest_bucket_by_any_scorer_holds_most_wrong_targets(scorer):
    config = dataclasses.replace(
        Digits().sample(np.random.default_rng(0)),
        scorer=scorer, bucket_by="difficulty", label_noise=0.2, num_classes=10, num_features=64, num_examples=800,
        width=64, depth=1, duplicates=0.0, imbalance=1.0, domain_skew=0.0, drift=0.0, probed=False,
    )  # fmt: skip
    task, clean = Digits().build(config), Digits().build(dataclasses.replace(config, label_noise=1e-9))
    wrong = (task.train.tensors[1] != clean.train.tensors[1]).numpy()  # type: ignore[attr-defined]
    shares = [wrong[task.buckets.ids == bucket].mean() for bucket in range(4)]
    assert shares[3] > 0.5
    assert max(shares[:3]) < 0.3


def test_wrong_targets_are_of_the_same_part():
    """Autoencoders' targets are images, which are unique: those of a part come from that part."""
    config = dataclasses.replace(
        Autoencoder().sample(np.random.default_rng(0)),
        label_noise=0.4, noisy_validation=True, duplicates=0.0, domain_skew=0.0, drift=0.0,
    )  # fmt: skip
    task = Autoencoder().build(config)
    parts = [task.train.tensors[1], task.validation[1], task.test[1]]  # type: ignore[attr-defined]
    images = [{row.numpy().tobytes() for row in part} for part in parts]
    assert not images[0] & images[1]
    assert not images[0] & images[2]
    assert not images[1] & images[2]
