"""The inner run: an ordinary loop, reproducible, saved and branched, on any model and data set."""

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from rlsched import Buckets, CurriculumSampler
from rlsched.collate import collate
from rlsched.envs import TorchRun
from rlsched.envs.population import Population
from rlsched.envs.tasks import Digits, DigitsConfig, Tabular, TabularConfig, Task

CONFIG = DigitsConfig(
    data_seed=3, num_steps=60, num_decisions=10, batch_size=16, optimizer="adam", base_lr=0.01,
    label_noise=0.2, imbalance=0.5,
)  # fmt: skip


def advance(run: TorchRun, steps: int, scale: float = 1.0):
    return run.advance(steps, np.full(steps, scale), run.spec.bucket_shares[0])


def started(seed=1, config=CONFIG) -> TorchRun:
    run = TorchRun(Digits().build(config))
    run.reset(seed)
    return run


def same_weights(one: TorchRun, other: TorchRun) -> bool:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_is_the_loop_one_would_write():
    run = started()
    scale, weights = np.linspace(1.0, 0.5, 20), np.array([0.4, 0.3, 0.2, 0.1])
    model_seed, draw_seed = (int(s) for s in np.random.SeedSequence(1).generate_state(2))
    task = Digits().build(CONFIG)
    model = task.make_model(torch.Generator().manual_seed(model_seed))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    sampler = CurriculumSampler(task.buckets, 16, seed=draw_seed)
    sampler.set_weights(weights)
    losses = []
    for step in range(20):
        x, y = task.train[sampler.draw().tolist()]
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 0.01 * scale[step]
        optimizer.step()
        losses.append(loss.item())
    window = run.advance(20, scale, weights)
    assert window.loss[0] == pytest.approx(np.mean(losses), rel=1e-6)
    assert window.step[0] == 20
    for mine, theirs in zip(run.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_seeds_decide_everything():
    one, same, other = started(1), started(1), started(2)
    for run in (one, same, other):
        advance(run, 15)
    assert same_weights(one, same)
    assert not same_weights(one, other)
    assert one.validation_loss() == same.validation_loss()


def test_global_random_state_is_left_alone():
    torchs, pythons = torch.get_rng_state(), random.getstate()
    numpys = np.random.get_state(legacy=True)  # noqa: NPY002
    advance(started(), 10)
    assert torch.equal(torchs, torch.get_rng_state())
    assert pythons == random.getstate()
    assert str(numpys) == str(np.random.get_state(legacy=True))  # noqa: NPY002


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_run_is_saved_restored_and_branched_bit_exactly(optimizer):
    run = started(config=dataclasses.replace(CONFIG, optimizer=optimizer))
    advance(run, 13)
    saved = run.state_dict()
    straight = advance(run, 10)
    final = [p.detach().clone() for p in run.model.parameters()]
    branch = started(seed=9, config=dataclasses.replace(CONFIG, optimizer=optimizer))
    branch.load_state_dict(saved)
    advance(branch, 10, scale=5.0)
    assert not all(torch.equal(a, b) for a, b in zip(final, branch.model.parameters(), strict=True))
    branch.load_state_dict(saved)
    again = advance(branch, 10)
    assert all(torch.equal(a, b) for a, b in zip(final, branch.model.parameters(), strict=True))
    for name in ("loss", "grad_norm", "update_ratio", "grad_agreement", "bucket_loss", "step", "decision"):
        np.testing.assert_array_equal(getattr(straight, name), getattr(again, name))


def test_bucket_losses_are_those_of_the_examples_drawn():
    run = started()
    weights = np.array([0.5, 0.0, 0.5, 0.0])
    window = run.advance(5, np.zeros(5), weights)
    assert np.isnan(window.bucket_loss[0, [1, 3]]).all()
    # At learning rate zero the losses can be computed after the fact.
    run.reset(1)
    sampler = CurriculumSampler(run.task.buckets, 16, seed=int(np.random.SeedSequence(1).generate_state(2)[1]))
    sampler.set_weights(weights)
    index = np.concatenate([sampler.draw() for _ in range(5)])
    x, y = run.task.train[index.tolist()]
    with torch.no_grad():
        losses = nn.functional.cross_entropy(run.model(x), y, reduction="none").numpy()
    for bucket in (0, 2):
        mean = losses[run.task.buckets.ids[index] == bucket].mean()
        assert window.bucket_loss[0, bucket] == pytest.approx(mean, rel=1e-5)


def test_a_diverging_run_stops_at_once():
    run = started(config=dataclasses.replace(CONFIG, optimizer="sgd", base_lr=1e30))
    window = advance(run, 50)
    assert window.nonfinite[0] == 1
    assert window.step[0] < 50


class Squares(Dataset[Any]):
    """A map-style data set that is no TensorDataset: dictionaries, one example at a time."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> dict[str, float]:
        return {"x": index / 40, "y": (index / 40) ** 2}


def two_groups(model: nn.Module) -> torch.optim.Optimizer:
    first, _, last = model.children()
    groups: list[dict[str, Any]] = [{"params": first.parameters()}, {"params": last.parameters(), "lr": 0.1}]
    return torch.optim.RMSprop(groups, lr=0.01)


def own_task(dataset=None, buckets=None, batch_size=8) -> Task:
    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        x, y = (batch[name].float()[:, None] for name in ("x", "y"))
        return (model(x) - y).square().mean(dim=1)

    data = Squares() if dataset is None else dataset
    held_out = {name: torch.linspace(0, 1, 5) for name in ("x", "y")}
    return Task(
        config=dataclasses.replace(CONFIG, batch_size=batch_size),
        make_model=lambda generator: nn.Sequential(nn.Linear(1, 8), nn.LayerNorm(8), nn.Linear(8, 1)),
        make_optimizer=two_groups,
        loss=loss,
        train=data,
        validation=held_out,
        test=held_out,
        buckets=Buckets.from_groups(np.arange(40) % 2) if buckets is None else buckets,
    )


def test_any_module_optimizer_and_data_set():
    run = TorchRun(own_task())
    run.reset(0)
    before = run.validation_loss()
    window = advance(run, 50)
    assert np.isfinite(window.loss).all()
    assert window.spec.base_lr.tolist() == [[0.01, 0.1]]
    assert window.spec.adaptive.tolist() == [True]
    assert run.validation_loss() != before
    assert [group["lr"] for group in run.optimizer.param_groups] == [0.01, 0.1]


def test_modules_that_draw_random_numbers_follow_the_seed_too():
    task = dataclasses.replace(
        own_task(), make_model=lambda g: nn.Sequential(nn.Linear(1, 64), nn.Dropout(0.5), nn.Linear(64, 1))
    )
    run = TorchRun(task)
    run.reset(3)
    with torch.no_grad():
        start = [p.clone() for p in run.model.parameters()]
    one = advance(run, 10).loss
    saved = run.state_dict()
    rest = advance(run, 10).loss
    run.load_state_dict(saved)
    assert advance(run, 10).loss == rest
    torch.manual_seed(12345)  # what happens elsewhere does not matter
    run.reset(3)
    with torch.no_grad():
        for parameter, value in zip(run.model.parameters(), start, strict=True):
            parameter.copy_(value)
    assert advance(run, 10).loss == one


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"dataset": TensorDataset(torch.zeros(0))},
            "train must hold at least a batch of 8 examples, has 0: lower",
        ),
        ({"buckets": Buckets.from_groups([0, 1])}, "one entry per training example .40., has 2"),
        ({"batch_size": 41}, "train must hold at least a batch of 41 examples, has 40: lower batch_size"),
        (
            {"dataset": TensorDataset(torch.full((40, 3), torch.nan))},
            "train must be finite, holds NaN or inf: clean",
        ),
    ],
)
def test_a_task_that_does_not_fit_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        TorchRun(own_task(**changes))


@pytest.mark.parametrize("family", [Digits(), Tabular()])
def test_families_sample_and_build_reproducibly(family):
    for seed in range(25):
        config = family.sample(np.random.default_rng(seed))
        assert config == family.sample(np.random.default_rng(seed))
        one, other = family.build(config), family.build(config)
        assert all(torch.equal(a, b) for a, b in zip(one.train.tensors, other.train.tensors, strict=True))
        assert one.buckets.count == family.num_buckets
        assert len(one.train) >= config.batch_size
        TorchRun(one).reset(0)


@pytest.mark.parametrize(("family", "config"), [
    (Digits(), CONFIG),
    (Tabular(), TabularConfig(
        data_seed=0, num_steps=50, num_decisions=5, batch_size=8, optimizer="sgd", base_lr=0.1, source="wine",
    )),
])  # fmt: skip
def test_training_validation_and_test_data_are_disjoint(family, config):
    task = family.build(config)
    parts = [task.train.tensors[0], task.validation[0], task.test[0]]
    rows = [tuple(row) for part in parts for row in part.tolist()]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"label_noise": 1.5}, ValueError, "label_noise must be a finite number in"),
        ({"num_classes": 1}, ValueError, "num_classes must be an integer in"),
        ({"optimizer": "lbfgs"}, ValueError, "optimizer must be one of adam, adamw, plain_sgd, sgd, got 'lbfgs'"),
        ({"base_lr": float("inf")}, ValueError, "base_lr must be a finite number"),
        ({"num_decisions": 60}, ValueError, "num_decisions must be an integer in"),
        ({"batch_size": "16"}, TypeError, "batch_size must be an integer, got '16'"),
    ],
)
def test_a_bad_config_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        dataclasses.replace(CONFIG, **changes)


def test_a_restored_run_remembers_its_last_gradient():
    run, twin = (TorchRun(Digits().build(CONFIG)) for _ in range(2))
    run.reset(0)
    twin.reset(0)
    shares = run.spec.bucket_shares[0]
    run.advance(3, np.ones(3), shares)
    twin.load_state_dict(run.state_dict())
    windows = [each.advance(1, np.ones(1), shares) for each in (run, twin)]
    assert np.isfinite(windows[0].grad_agreement).all()
    np.testing.assert_array_equal(windows[0].grad_agreement, windows[1].grad_agreement)


def test_evaluation_draws_the_same_numbers_every_time():
    def noisy(model, batch):
        return (model(batch["x"].float()[:, None]) + torch.randn(len(batch["x"]), 1)).square().mean(dim=1)

    task = dataclasses.replace(own_task(), loss=noisy)
    run = TorchRun(task)
    run.reset(0)
    before = torch.get_rng_state()
    assert run.validation_loss() == run.validation_loss()
    assert torch.equal(before, torch.get_rng_state())


def test_steps_that_were_not_sound_say_nothing_of_the_examples(monkeypatch):
    seen = []

    def spy(self, indices, losses):
        seen.append(np.array(losses))

    monkeypatch.setattr("rlsched.envs.data_order.DataOrder.close_window", spy)
    config = dataclasses.replace(CONFIG, optimizer="sgd", base_lr=1e38, bucket_by="online")
    task = Digits().build(config)
    run, population = TorchRun(task), Population([task])
    run.reset(0)
    run.advance(8, np.ones(8), run.spec.bucket_shares[0])
    population.reset([0])
    window = population.advance(np.array([8]), np.ones((1, 8)), population.spec.bucket_shares)
    assert window.nonfinite[0] == 1
    assert len(seen) == 2
    for losses in seen:
        assert 0 < len(losses) < 8
        assert np.isfinite(losses).all()
    assert seen[0].shape == seen[1].shape


def test_each_example_of_a_subclass_goes_through_its_own_getitem():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return tuple(values * 2 for values in super().__getitem__(index))

    data = Doubled(torch.arange(6.0))
    assert collate(data, np.array([1, 3]))[0].tolist() == [2.0, 6.0]


class Jittered(Squares):
    """Augmented from the global generators, as others' data sets are."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        noise = np.random.randn() + random.random() + torch.randn(()).item()  # noqa: NPY002
        return example | {"x": example["x"] + noise}


def test_data_sets_that_draw_random_numbers_follow_the_seed_too():
    def losses(upset=0):
        np.random.seed(upset)  # noqa: NPY002
        random.seed(upset)
        torch.manual_seed(0)  # the model of this task draws from it
        run = TorchRun(own_task(dataset=Jittered()))
        run.reset(3)
        torch.manual_seed(upset)
        return [float(advance(run, 2).loss[0]) for _ in range(3)]

    before = random.getstate()
    assert losses() == losses(upset=5)
    random.setstate(before)


def test_a_restored_run_draws_the_same_random_numbers():
    run = TorchRun(own_task(dataset=Jittered()))
    run.reset(3)
    advance(run, 2)
    state = run.state_dict()
    straight = float(advance(run, 3).loss[0])
    run.load_state_dict(state)
    assert float(advance(run, 3).loss[0]) == straight
