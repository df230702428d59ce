"""Every family of tasks: what it draws, what is the matter with its data, and that its runs train."""

import dataclasses
import functools
import math
import pickle
import random

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
    Mixture,
    ModularConfig,
    Quadratics,
    Signals,
    Tabular,
    Teacher,
    broad,
    describe,
    signals,
)
from rlsched.envs.tasks import characters as characters_module

DATA = sorted(set(FAMILIES) - {"broad", "quadratics", "continual", "quick", "short", "wide", "practice"})
LEAVES = [*DATA, "quadratics", "continual"]
CLEAN = {
    "label_noise": 0.0, "noisy_validation": False, "imbalance": 1.0, "duplicates": 0.0, "domain_skew": 0.0,
    "drift": 0.0, "bucket_by": "difficulty", "probed": False,
}  # fmt: skip


def family_of(name, **settings):
    return FAMILIES[name](**settings)


@functools.cache
def _configs(name, count=10):
    rng = np.random.default_rng(5)
    return [family_of(name).sample(rng) for _ in range(count)]


def configs(name):
    return _configs(name)


def clean(name, index=0, **changes):
    """A task of the family with nothing the matter but `changes`."""
    config = dataclasses.replace(configs(name)[index], **CLEAN | {"num_examples": 1000} | changes)
    return family_of(name).build(config)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def np_state():
    return np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002


def tensors_of(task):
    parts = [*task.train.tensors, *task.validation, *task.test]
    parts += [] if task.drifted is None else task.drifted.tensors
    return [*parts, torch.from_numpy(task.buckets.ids), *task.make_model(generator()).parameters()]


def same(one, other):
    pairs = list(zip(tensors_of(one), tensors_of(other), strict=False))
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def rows(batch):
    """Examples as bytes, by their inputs."""
    return [row.tobytes() for row in batch[0].numpy()]


# --- What is drawn ---


def test_longer_runs_have_more_examples_where_there_are_more():
    family = Teacher(most_epochs=5.0, max_steps=600)
    drawn = [family.sample(np.random.default_rng(seed)) for seed in range(40)]
    epochs = [config.num_steps * config.batch_size / config.num_examples for config in drawn]
    assert max(epochs) <= 5.0 < max(c.num_steps * c.batch_size for c in drawn) / 1000
    longest = max((c for c in drawn if c.imbalance == 1.0), key=lambda config: config.num_examples)
    assert len(family.build(longest).buckets.ids) == longest.num_examples > 1000, "its pool of examples grew too"


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


@pytest.mark.parametrize("option", [{"normalised": 2.0}, {"input_scales": 0.5}, {"input_scales": 1e3}])
def test_bad_options_of_a_family_are_refused_by_name(option):
    with pytest.raises(ValueError, match=rf"{next(iter(option))} must be a finite number in \["):
        DigitsCNN(**option)


def test_tokens_are_not_scaled():
    with pytest.raises(
        ValueError, match=r"input_scales must be a finite number in \[1.0, 1.0\].*Inputs are tokens"
    ):
        Characters(input_scales=2.0)


@pytest.mark.parametrize("name", ["digits", "digits_cnn", "autoencoder"])
@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_units_make_nothing_harder(name, scale):
    """Nor easier: the buckets are those of standardised inputs."""
    before, after = (clean(name, input_scale=each, duplicates=0.3, num_examples=200) for each in (1.0, scale))
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


def test_practice_has_normalised_networks_and_inputs_of_any_scale_and_the_suite_has_neither():
    def drawn(name):
        rng = np.random.default_rng(0)
        return [FAMILIES[name]().sample(rng) for _ in range(200)]

    practice, wide = drawn("practice"), drawn("wide")
    networks = [config.normalised for config in practice if isinstance(config, DigitsCNNConfig)]
    assert 0.2 < np.mean(networks) < 0.8
    scales = [config.input_scale for config in practice]
    assert min(scales) < 0.3 < 3.0 < max(scales)
    assert max(abs(math.log(scale)) for scale in scales) <= math.log(4.0) + 1e-9
    for config in practice:
        if isinstance(config, (CharactersConfig, ModularConfig)):
            assert config.input_scale == 1.0
    assert {config.input_scale for config in wide} == {1.0}
    assert not any(getattr(config, "normalised", False) for config in wide)


# --- What is the matter with the data ---


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


# --- Training ---


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


# --- Families by themselves ---


def test_signals_are_those_of_a_plain_loop():
    filters = pytest.importorskip("scipy.ndimage")
    labels = np.arange(60) % 10
    made = signals.make_signals(labels, 0.25, np.random.default_rng(3))
    rng, size = np.random.default_rng(3), (60, 1)
    padding, shift, scale = rng.integers(36, 61, size=size), rng.integers(48, size=size), rng.random(size)
    correlated = 0.25 * rng.standard_normal((60, 72), dtype=np.float32)
    noise = 0.02 * rng.standard_normal((60, 72), dtype=np.float32)
    slope = rng.random(size)
    for i, label in enumerate(labels):
        x = signals._TEMPLATES[label] - signals._TEMPLATES[label].mean()
        x = x / x.std()
        x = np.concatenate([(x - x[0]) / 6 + 1e-8, np.zeros(padding[i, 0])])
        x = np.interp(np.linspace(0, 1, 72), np.linspace(0, 1, len(x)), x)
        x = np.roll(x * (1 + 0.4 * (scale[i, 0] - 0.5)), shift[i, 0])
        x = np.where(x != 0, x, filters.gaussian_filter1d(correlated[i].astype(float), 2)) + noise[i]
        x = x - 0.75 * (slope[i, 0] - 0.5) * np.linspace(-0.5, 0.5, 72)
        x = np.interp(np.linspace(0, 1, 40), np.linspace(0, 1, 72), x)
        np.testing.assert_allclose(made[i], x, atol=2e-5)


def test_the_text_is_the_same_on_every_python(monkeypatch):
    for module in characters_module.MODULES:
        source, text = characters_module._load(module)
        assert source == Characters.source_of(module)
        with monkeypatch.context() as patch:
            patch.setattr("sysconfig.get_path", lambda name: "/nowhere")
            assert characters_module._load.__wrapped__(module) == ("excerpt", text)
        assert len(text) == characters_module.EXCERPT
        assert set(text) <= set(characters_module.VOCABULARY)
    with pytest.raises(ValueError, match="module must be one of cmd, csv"):
        Characters.source_of("os")


def test_characters_predict_the_next_one():
    inputs, targets = clean("characters").train.tensors
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    scores = characters_module.bigram_losses(inputs.numpy(), targets.numpy())
    shuffled = characters_module.bigram_losses(inputs.numpy(), targets.numpy()[::-1])
    assert scores.shape == (len(inputs),)
    assert scores.mean() < shuffled.mean()


def test_digits_are_batched_even_if_there_are_but_two():
    family = family_of("digits")
    config = dataclasses.replace(configs("digits")[0], num_classes=2, batch_size=family.max_batch)
    assert len(family.build(config).train) >= config.batch_size


# --- Mixtures ---


def test_a_mixture_gives_each_task_to_its_family():
    family = Mixture([Digits(), Mixture([Signals(), DigitsCNN()])], weights=[3, 1])
    rng = np.random.default_rng(0)
    drawn = [family.sample(rng) for _ in range(400)]
    kinds = [type(config).__name__ for config in drawn]
    assert abs(kinds.count("DigitsConfig") / 400 - 0.75) < 0.08
    assert set(kinds) == {"DigitsConfig", "SignalsConfig", "DigitsCNNConfig"}
    for config in drawn[:6]:
        assert family.build(config).config is config
        like = family.sample_like(rng, config)
        assert type(like) is type(config)
        assert like.num_steps == config.num_steps
    assert not family.builds(configs("parity")[0])
    with pytest.raises(TypeError, match="config must be of one of the families Digits, Mixture, got ParityConfig"):
        family.build(configs("parity")[0])


def test_bad_mixtures_are_refused():
    with pytest.raises(ValueError, match="families must hold at least one"):
        Mixture([])
    with pytest.raises(TypeError, match="families must hold instances of TaskFamily, got <class"):
        Mixture([Digits])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"same num_buckets, got \[4, 5\]"):
        Mixture([Digits(), Tabular(num_buckets=5)])
    with pytest.raises(ValueError, match="one positive number for each of 2"):
        Mixture([Digits(), Tabular()], weights=[1.0, 0.0])


def test_the_broad_mixture_draws_all_that_are_not_for_one_purpose():
    lines = describe(broad(num_buckets=3), np.random.default_rng(0), count=300)
    expected = {type(configs(name)[0]).__name__ for name in DATA if name != "diffusion"}
    assert {line.config for line in lines} == expected
    shares = {line.config: line.share for line in lines}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["DigitsConfig"] > shares["CharactersConfig"]
    assert next(line.values for line in lines if line.field == "num_buckets") == "3"


def test_ranges_are_described_as_sampled():
    lines = {line.field: line.values for line in describe(Quadratics(), np.random.default_rng(0), count=50)}
    assert lines["curriculum"] == "False 100%"
    assert "True" in lines["feedback"]
    low, high = (float(value) for value in lines["noise"].split(",")[0].split(" to "))
    assert 0.1 <= low < high <= 10.0


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


def test_tasks_that_are_computed_together_stay_as_misjudged_as_drawn():
    family, first = Digits(), Digits().sample(np.random.default_rng(1))
    for seed in range(20):
        drawn = family.sample(np.random.default_rng(seed))
        alike = family.sample_like(np.random.default_rng(seed), first)
        misjudged = [config.base_lr / family.reference_lr[config.optimizer] for config in (drawn, alike)]
        assert misjudged[1] == pytest.approx(misjudged[0])
        assert alike.optimizer == first.optimizer


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


def test_families_refuse_batches_that_they_cannot_draw():
    with pytest.raises(ValueError, match=r"max_batch must be an integer in \[1, 128\], got 256. Two digits"):
        Digits(max_batch=256)
    with pytest.raises(ValueError, match="min_batch to max_batch must hold a power of two, got 5 to 7"):
        Teacher(min_batch=5, max_batch=7)


def test_families_that_cannot_be_told_apart_are_not_mixed():
    with pytest.raises(ValueError, match="families must differ in the type of their settings, two have Digits"):
        Mixture([Digits(misjudged=1.0), Digits()])
