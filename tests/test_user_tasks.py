"""A user's own task: what it may be, that it varies and is left alone, and what is said if it cannot be used."""

import copy
import random
import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from rlsched import Buckets
from rlsched.envs import TorchRun
from rlsched.envs.tasks import Digits, Mixture, UserFamily, UserTask, load_task
from rlsched.envs.tasks.fresh import fresh_copy
from rlsched.randomness import Randomness


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def sgd(model):
    return torch.optim.SGD(
        [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.5}], lr=0.05
    )


def network():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def data(count, seed):
    inputs = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return inputs, inputs[:, :3].argmax(1)


def plain(**changes):
    settings = {
        "model": network(), "train": data(120, 1), "validation": data(60, 2), "loss": loss, "optimizer": sgd,
        "num_steps": 80, "batch_size": 16,
    }  # fmt: skip
    return UserTask(**settings | changes)


def seeded(seed: int):
    # Draws from the global generators, as users' code does.
    torch.manual_seed(torch.randint(1000, ()).item())
    return plain(train=data(120 + random.randrange(20), seed + 1))


class Pictures(Dataset):
    def __len__(self):
        return 50

    def __getitem__(self, index):
        x = np.random.default_rng(index).standard_normal(6).astype(np.float32)
        return x, int(x[:3].argmax())


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(6), 0


def task_of(family, seed=0):
    return family.build(family.sample(np.random.default_rng(seed)))


def started(family, seed=0):
    run = TorchRun(task_of(family, seed))
    run.reset(seed)
    return run


def test_runs_train_and_leave_the_users_model_alone():
    model = network()
    before = copy.deepcopy(model.state_dict())
    family = UserFamily(lambda: plain(model=model, num_steps=160), misjudged=1.0)
    run = started(family)
    assert run.spec.num_buckets == 4
    assert len(run.task.validation[0]) == len(run.task.test[0]) == 30
    first = run.validation_loss()
    run.advance(160, 1 - np.arange(160) / 160, run.task.buckets.shares)
    assert run.validation_loss() < 0.6 * first
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_variations_follow_the_generator_and_keep_the_ratio_of_learning_rates():
    family = UserFamily(plain, misjudged=30.0, stretch=2.0)
    configs = [family.sample(np.random.default_rng(seed)) for seed in range(200)]
    assert configs[7] == family.sample(np.random.default_rng(7))
    rates, steps = [config.base_lr for config in configs], [config.num_steps for config in configs]
    assert 0.05 / 30 <= min(rates) < 0.01 < 0.3 < max(rates) <= 0.05 * 30
    assert 40 <= min(steps) < 60 < 110 < max(steps) <= 160
    assert {config.feedback for config in configs} == {config.curriculum for config in configs} == {False, True}
    task = family.build(configs[0])
    optimizer = task.make_optimizer(task.make_model(torch.Generator().manual_seed(0)))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rates[0], 10 * rates[0]])


def test_a_seed_varies_the_data_and_global_generators_are_left_alone():
    python, state = random.getstate(), torch.get_rng_state()
    family = UserFamily(seeded)
    one, other = (task_of(family, seed) for seed in (1, 2))
    again = task_of(UserFamily(seeded), 1)
    assert torch.equal(one.train.tensors[0], again.train.tensors[0])
    assert one.train.tensors[0].flatten()[0] != other.train.tensors[0].flatten()[0]
    assert random.getstate() == python
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_are_drawn_anew_for_each_run_unless_they_shall_not_be():
    fresh, kept = UserFamily(plain), UserFamily(lambda: plain(reset=False))
    weights = [task_of(family).make_model for family in (fresh, kept)]
    first, second, again = (weights[0](torch.Generator().manual_seed(seed))[0].weight for seed in (1, 2, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    first, second = (weights[1](torch.Generator().manual_seed(seed))[0].weight for seed in (1, 2))
    assert torch.equal(first, second)


def test_a_function_may_make_the_model_with_layers_as_they_come():
    family = UserFamily(lambda: plain(model=lambda generator: network()))
    make = task_of(family).make_model
    first, second, again = (make(torch.Generator().manual_seed(seed))[0].weight for seed in (1, 2, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_attention_is_drawn_anew_as_well():
    model = nn.MultiheadAttention(8, 2)
    copied: Any = fresh_copy(model, torch.Generator().manual_seed(0))
    assert not torch.equal(model.in_proj_weight, copied.in_proj_weight)
    assert torch.equal(copied.out_proj.bias, torch.zeros(8))


def test_randomness_is_restored_after_an_error():
    state, numpys, pythons = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    with pytest.raises(KeyError), Randomness(0)():
        raise KeyError(torch.rand(3), np.random.rand(3), random.random())  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state)
    for mine, theirs in zip(np.random.get_state(), numpys, strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(mine, theirs)
    assert random.getstate() == pythons


def test_no_test_example_is_another_variations_validation():
    family = UserFamily(lambda: plain())
    tasks = [task_of(family, seed) for seed in range(6)]
    validation, test = ({row.numpy().tobytes() for task in tasks for row in part(task)} for part in (
        lambda task: task.validation[0], lambda task: task.test[0],
    ))  # fmt: skip
    assert len(validation) == len(test) == 30
    assert not validation & test


@pytest.mark.parametrize(
    ("value", "words"), [(-1.0, "loss must be finite and >= 0"), (float("nan"), "finite and >=")]
)
def test_losses_that_a_policy_cannot_steer_by_are_refused(value, words):
    def shifted(model, batch):
        return loss(model, batch) * 0 + value

    with pytest.raises(ValueError, match="loss must be finite and >= 0"):
        UserFamily(lambda: plain(loss=shifted))


def test_map_style_data_sets_scores_and_buckets_are_used():
    family = UserFamily(
        lambda: plain(train=Pictures(), validation=Pictures(), test=data(9, 3), scores=np.arange(50.0)),
        num_buckets=5,
    )
    task = started(family).task
    assert len(task.validation[0]) == 50
    assert len(task.test[0]) == 9
    assert task.buckets.ids.tolist() == sorted(task.buckets.ids)
    assert not task.online
    groups = Buckets.from_groups(np.arange(120) % 3)
    family = UserFamily(lambda: plain(buckets=groups), num_buckets=3)
    assert family.sample(np.random.default_rng(0)).bucket_by == "domain"
    assert started(family).task.buckets is groups
    assert started(UserFamily(plain)).task.online


def test_two_users_tasks_can_be_mixed_with_others():
    family = Mixture([UserFamily(plain), UserFamily(seeded), Digits()])
    rng = np.random.default_rng(0)
    drawn = [family.sample(rng) for _ in range(30)]
    tasks = [family.build(config) for config in drawn]
    assert len({getattr(config, "function", "") for config in drawn}) == 3
    assert all(task.config is config for task, config in zip(tasks, drawn, strict=True))
    with pytest.raises(ValueError, match=r"config must be of the function .*:plain, got one of .*:seeded"):
        family.families[0].build(family.families[1].sample(rng))


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (3, TypeError, "function must be callable, got int"),
        (lambda path: plain(), TypeError, "must take no argument, or a seed alone, needs path"),
        (lambda: network(), TypeError, "must return an rlsched.envs.tasks.UserTask, returned a Sequential"),
        (lambda: plain(loss=lambda m, b: loss(m, b).mean()), ValueError, r"shape \(16,\), returned shape \(\): "),
        (lambda: plain(loss=lambda m, b: 1.0), ValueError, "one loss per example.* returned float"),
        (lambda: plain(loss=lambda m, b: torch.zeros(16)), ValueError, "it has no gradient"),
        (lambda: plain(optimizer=lambda m: 0.1), TypeError, "must return a torch optimizer, returned a float"),
        (lambda: plain(model=lambda g: None), TypeError, "model must make an nn.Module, made a NoneType"),
        (lambda: plain(train=data(10, 0)), ValueError, "train must hold at least 16 examples, has 10"),
        (lambda: plain(train=torch.zeros(9)), TypeError, r"train must be a data set .*write \(train,\)"),
        (lambda: plain(train=Stream()), TypeError, "train must be a map-style data set or tensors"),
        (lambda: plain(validation=data(1, 0)), ValueError, "validation must hold at least 2 examples, has 1"),
        (lambda: plain(num_decisions=0), ValueError, "num_decisions must be an integer >= 1, got 0"),
        (lambda: plain(scores=np.arange(7.0)), ValueError, "buckets must have one entry per training example"),
        (lambda: plain(buckets=Buckets.from_groups([0, 1] * 60)), ValueError, "num_buckets must be .*, 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_when_the_family_is_made(function, error, words):
    with pytest.raises(error, match=words):
        UserFamily(function)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mytask", "name must be \"package.module:function\", got 'mytask'"),
        ("no_such_package.task:make", "there is no module 'no_such_package': install it, or add its folder"),
        ("mytask_file:other", "mytask_file has no function 'other'; it has make"),
    ],
)
def test_names_that_lead_nowhere_are_explained(name, words, monkeypatch, tmp_path):
    (tmp_path / "mytask_file.py").write_text("def make():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=words):
        load_task(name)


def test_a_name_is_resolved_and_errors_of_the_users_module_are_its_own(monkeypatch, tmp_path):
    (tmp_path / "mytask_good.py").write_text("def make():\n    return 7\n")
    (tmp_path / "mytask_bad.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    function = load_task("mytask_good:make")
    assert isinstance(function, types.FunctionType)
    assert function() == 7
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        load_task("mytask_bad:make")


def broken_loss(model, batch):
    return batch["inputs"]


def mixed_loss(model, batch):
    inputs, labels = batch
    return (model(inputs)[:, :1] - labels.float()).square().mean(dim=1)


MISTAKES = [
    (
        {"train": (np.zeros((40, 6)), np.zeros(40))},
        "train must hold tensors, holds a ndarray: wrap it by",
    ),
    ({"train": (torch.zeros(40, 6), torch.zeros(30))}, "train must hold tensors of one length, has 40 and 30"),
    (
        {"validation": (torch.full((40, 6), torch.nan), data(40, 1)[1])},
        "validation must be finite, .*in example 0",
    ),
    ({"optimizer": sgd(network())}, "optimizer must be a function of the model, got a SGD: write lambda model:"),
    ({"model": lambda: network()}, "making the model failed: TypeError: .* takes 0 positional arguments"),
    (
        {"loss": broken_loss},
        r"the loss on a training batch failed: TypeError: .*line \d+ of .*test_user_tasks",
    ),
    ({"validation": (torch.zeros(40, 7), data(40, 1)[1])}, "the loss on the validation data failed: RuntimeError"),
]


@pytest.mark.parametrize(("changes", "words"), MISTAKES)
def test_mistakes_are_told_in_the_users_terms(changes, words):
    with pytest.raises((TypeError, ValueError), match=words):
        UserFamily(lambda: plain(**changes))


def test_a_loss_that_mixes_examples_is_pointed_out():
    with pytest.warns(UserWarning, match="the loss of an example depends on the others in its batch"):
        UserFamily(lambda: plain(loss=mixed_loss))


def test_short_runs_have_fewer_decisions():
    assert UserFamily(lambda: plain(num_steps=5)).sample(np.random.default_rng(0)).num_decisions == 4
