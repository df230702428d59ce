"""What is particular to one family of tasks, and mixtures of several."""

import dataclasses

import numpy as np
import pytest
import torch

from rlsched.envs.tasks import (
    Characters,
    Digits,
    DigitsCNN,
    Mixture,
    Quadratics,
    Signals,
    Tabular,
    Teacher,
    broad,
    describe,
    signals,
)
from rlsched.envs.tasks import characters as characters_module
from tests.tasks import DATA, clean, configs, family_of


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


def test_tasks_that_are_computed_together_stay_as_misjudged_as_drawn():
    family, first = Digits(), Digits().sample(np.random.default_rng(1))
    for seed in range(20):
        drawn = family.sample(np.random.default_rng(seed))
        alike = family.sample_like(np.random.default_rng(seed), first)
        misjudged = [config.base_lr / family.reference_lr[config.optimizer] for config in (drawn, alike)]
        assert misjudged[1] == pytest.approx(misjudged[0])
        assert alike.optimizer == first.optimizer


def test_families_refuse_batches_that_they_cannot_draw():
    with pytest.raises(ValueError, match=r"max_batch must be an integer in \[1, 128\], got 256. Two digits"):
        Digits(max_batch=256)
    with pytest.raises(ValueError, match="min_batch to max_batch must hold a power of two, got 5 to 7"):
        Teacher(min_batch=5, max_batch=7)


def test_families_that_cannot_be_told_apart_are_not_mixed():
    with pytest.raises(ValueError, match="families must differ in the type of their settings, two have Digits"):
        Mixture([Digits(misjudged=1.0), Digits()])
