"""The population against the slow, obvious reference: every row is the `TorchRun` of its task and seed."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rlsched import Buckets
from rlsched.contract import RunSpec
from rlsched.envs import TorchRun
from rlsched.envs.population import Population
from rlsched.envs.tasks import Digits, DigitsConfig, Tabular, Task

MEASURED = ("step", "decision", "loss", "loss_slope", "loss_noise", "grad_norm", "grad_spread", "update_ratio",
            "grad_agreement", "bucket_loss", "nonfinite")  # fmt: skip


def digits(**changes) -> DigitsConfig:
    settings: dict[str, Any] = {
        "data_seed": 3, "num_steps": 120, "num_decisions": 12, "batch_size": 16, "optimizer": "adam",
        "base_lr": 0.01, "num_examples": 200,
    }  # fmt: skip
    return DigitsConfig(**(settings | changes))


# Learning rates short of chaos, in which rounding errors would double every few steps in any two engines.
VARIED = [
    digits(optimizer="sgd", base_lr=0.03, batch_size=8, width=8, activation="relu"),
    digits(optimizer="adamw", batch_size=32, width=40, activation="tanh", num_features=20),
    digits(optimizer="adam", depth=2, width=12, activation="gelu", num_classes=3, label_noise=0.3),
    digits(optimizer="sgd", base_lr=0.02, depth=2, width=24, activation="relu", imbalance=0.3),
    digits(optimizer="adam", depth=0, num_classes=2),
    digits(optimizer="adamw", width=16, activation="gelu", data_seed=9, num_steps=90, num_decisions=20),
]


def double(task: Task) -> Task:
    """The same task in double precision, where only mistakes make a difference."""
    make_model = task.make_model

    def wide(values):
        return tuple(part.double() if part.is_floating_point() else part for part in values)

    def data(part):
        return None if part is None else torch.utils.data.TensorDataset(*wide(part.tensors))

    return dataclasses.replace(
        task,
        make_model=lambda generator: make_model(generator).double(),
        train=data(task.train),
        drifted=data(task.drifted),
        validation=wide(task.validation),
        test=wide(task.test),
    )


def references(tasks, seeds) -> list[TorchRun]:
    runs = [TorchRun(task) for task in tasks]
    for run, seed in zip(runs, seeds, strict=True):
        run.reset(seed)
    return runs


def schedule(seed, runs, width, buckets=4):
    """Learning-rate multipliers and bucket weights that differ by row, step and window."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.3, 1.5, (runs, width)), rng.dirichlet(np.full(buckets, 2.0), runs)


def compare(population, runs, seed, n_steps, rtol):
    """Advance both by one window; they must have seen the same."""
    scale, weights = schedule(seed, len(runs), int(n_steps.max()))
    window = population.advance(n_steps, scale, weights)
    for row, run in enumerate(runs):
        if n_steps[row] == 0:
            continue
        expected = run.advance(int(n_steps[row]), scale[row], weights[row])
        for name in MEASURED:
            mine, theirs = getattr(window, name)[row], getattr(expected, name)[0]
            np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol, err_msg=f"{name}, row {row}")
    return window


@pytest.mark.parametrize(("precision", "rtol"), [("double", 1e-9), ("single", 1e-4)])
@pytest.mark.parametrize("chunk", [64, 2])
def test_rows_are_torch_runs_step_by_step(precision, rtol, chunk):
    tasks = [Digits().build(config) for config in VARIED]
    if precision == "double":
        tasks = [double(task) for task in tasks]
    seeds = list(range(len(tasks)))
    population, runs = Population(tasks, chunk=chunk), references(tasks, seeds)
    population.reset(seeds)
    np.testing.assert_allclose(population.validation_loss(), [run.validation_loss() for run in runs], rtol=1e-5)
    for window in range(100):
        compare(population, runs, window, np.ones(len(tasks), dtype=int), rtol)
        validation = [run.validation_loss() for run in runs]
        np.testing.assert_allclose(population.validation_loss(), validation, rtol=max(rtol, 1e-6))
    np.testing.assert_allclose(population.test_loss(), [run.test_loss() for run in runs], rtol=max(rtol, 1e-6))


def test_rows_may_be_advanced_by_different_numbers_of_steps():
    tasks = [double(Digits().build(config)) for config in VARIED]
    seeds = [7] * len(tasks)
    population, runs = Population(tasks), references(tasks, seeds)
    population.reset(seeds)
    rng = np.random.default_rng(0)
    for window in range(8):
        compare(population, runs, window, rng.integers(0, 9, len(tasks)), rtol=1e-9)


def test_sampled_tasks_of_both_families_agree_too():
    for family in (Digits(), Tabular()):
        configs = [family.sample(np.random.default_rng(seed)) for seed in range(12)]
        tasks = [double(family.build(dataclasses.replace(config, base_lr=0.003))) for config in configs]
        population, runs = Population(tasks), references(tasks, range(12))
        population.reset(range(12))
        for window, width in enumerate((1, 1, 2, 4, 8, 13)):
            compare(population, runs, window, np.full(12, width), rtol=1e-7)


@pytest.mark.parametrize("settings", [
    {"momentum": 0.0}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "weight_decay": 0.01},
])  # fmt: skip
def test_every_form_of_sgd(settings):
    check_optimizer(lambda model: torch.optim.SGD(model.parameters(), lr=0.05, **settings))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("settings", [{}, {"betas": (0.8, 0.99), "eps": 1e-4, "weight_decay": 0.1}])
def test_every_form_of_adam(kind, settings):
    check_optimizer(lambda model: kind(model.parameters(), lr=0.01, **settings))


def check_optimizer(make_optimizer):
    """One row under this optimizer, among rows under others."""
    tasks = [double(Digits().build(config)) for config in (VARIED[0], VARIED[1], VARIED[0])]
    tasks[1] = dataclasses.replace(tasks[1], make_optimizer=make_optimizer)
    population, runs = Population(tasks), references(tasks, [1, 2, 3])
    population.reset([1, 2, 3])
    for window in range(25):
        compare(population, runs, window, np.full(3, 4), rtol=1e-9)


def test_rows_do_not_influence_each_other():
    tasks = [Digits().build(digits(width=16, data_seed=seed)) for seed in range(4)]
    one, other = Population(tasks), Population(tasks)
    one.reset([0, 1, 2, 3])
    other.reset([0, 1, 2, 99])
    for window in range(5):
        scale, weights = schedule(window, 4, 10)
        scale_too, weights_too = scale.copy(), weights.copy()
        scale_too[3], weights_too[3] = 7.0, weights[3][::-1]
        mine = one.advance(np.full(4, 10), scale, weights)
        theirs = other.advance(np.full(4, 10), scale_too, weights_too)
        for name in MEASURED:
            np.testing.assert_array_equal(getattr(mine, name)[:3], getattr(theirs, name)[:3])
    np.testing.assert_array_equal(one.validation_loss()[:3], other.validation_loss()[:3])
    assert one.validation_loss()[3] != other.validation_loss()[3]


def test_a_diverging_row_stays_alone_and_stops():
    configs = [digits(optimizer="sgd", base_lr=lr, width=16) for lr in (0.1, 1e30, 0.1)]
    tasks = [Digits().build(config) for config in configs]
    population = Population(tasks)
    population.reset([1, 2, 3])
    window = population.advance(np.full(3, 20), np.ones((3, 20)), population.spec.bucket_shares)
    assert window.nonfinite.tolist() == [0, 1, 0]
    assert window.step[1] < 20
    assert window.step[[0, 2]].tolist() == [20, 20]
    healthy = Population([tasks[0], tasks[2]])
    healthy.reset([1, 3])
    alone = healthy.advance(np.full(2, 20), np.ones((2, 20)), healthy.spec.bucket_shares)
    np.testing.assert_allclose(window.loss[[0, 2]], alone.loss, rtol=1e-6)
    assert np.isfinite(population.validation_loss()[[0, 2]]).all()


def test_rows_that_are_not_advanced_stay_bit_equal():
    tasks = [Digits().build(config) for config in VARIED]
    population = Population(tasks)
    population.reset(range(6))
    scale, weights = schedule(0, 6, 10)
    population.advance(np.full(6, 10), scale, weights)
    before = population.state_dict()
    loss = population.validation_loss()
    n_steps = np.array([5, 0, 5, 0, 5, 5])
    window = population.advance(n_steps, scale, weights)
    np.testing.assert_array_equal(population.validation_loss()[[1, 3]], loss[[1, 3]])
    assert window.decision.tolist() == [2, 1, 2, 1, 2, 2]
    assert window.step.tolist() == [15, 10, 15, 10, 15, 15]
    population.load_state_dict(before)
    np.testing.assert_array_equal(population.validation_loss(), loss)


def test_a_population_is_saved_and_restored_bit_exactly():
    tasks = [Digits().build(config) for config in VARIED]
    population, twin = Population(tasks), Population(tasks)
    population.reset(range(6))
    twin.reset(range(10, 16))
    scale, weights = schedule(0, 6, 10)
    population.advance(np.full(6, 10), scale, weights)
    saved = population.state_dict()
    straight = population.advance(np.full(6, 7), scale, weights)
    twin.load_state_dict(saved)
    again = twin.advance(np.full(6, 7), scale, weights)
    for name in MEASURED:
        np.testing.assert_array_equal(getattr(straight, name), getattr(again, name))
    np.testing.assert_array_equal(population.validation_loss(), twin.validation_loss())


@pytest.mark.parametrize("chunk", [64, 2])
def test_branched_rows_go_on_alike(chunk):
    """Also between blocks that pad differently."""
    one, other = Digits().build(digits(width=8)), Digits().build(digits(width=40, optimizer="sgd", data_seed=5))
    tasks = [one, other, one, other, one]
    population = Population(tasks, chunk=chunk)
    population.reset([1, 2, 3, 4, 5])
    scale, weights = schedule(0, 5, 12)
    population.advance(np.array([9, 6, 3, 12, 1]), scale, weights)
    population.branch([0, 1, 0], [2, 3, 4])
    same = np.zeros((5, 12)) + scale[0], np.zeros((5, 4)) + weights[0]
    window = population.advance(np.full(5, 12), *same)
    for name in ("step", "decision", "loss", "bucket_loss", "grad_norm", "update_ratio"):
        values = getattr(window, name)
        np.testing.assert_allclose(values[2], values[0], rtol=1e-6)
        np.testing.assert_allclose(values[4], values[0], rtol=1e-6)
        np.testing.assert_allclose(values[3], values[1], rtol=1e-6)
    # From here on they are apart again.
    scale_too = same[0].copy()
    scale_too[4] = 3.0
    apart = population.advance(np.full(5, 12), scale_too, same[1])
    assert apart.loss[4] != apart.loss[0]
    with pytest.raises(ValueError, match="rows 0 and 1 are of different tasks"):
        population.branch([0], [1])


def test_specs_are_stacked():
    tasks = [Digits().build(config) for config in VARIED]
    population = Population(tasks)
    population.reset(range(6))
    singles = [run.spec for run in references(tasks, range(6))]
    assert population.spec.num_decisions.tolist() == [12, 12, 12, 12, 12, 20]
    for row, single in enumerate(singles):
        for name in RunSpec.__dataclass_fields__:
            mine, theirs = getattr(population.spec, name)[row], getattr(single, name)[0]
            np.testing.assert_array_equal(mine[: theirs.shape[0]] if theirs.ndim else mine, theirs)


def with_model(*layers: nn.Module) -> Task:
    return dataclasses.replace(
        Digits().build(digits()), make_model=lambda _: copy.deepcopy(nn.Sequential(*layers))
    )


def with_optimizer(make_optimizer) -> Task:
    return dataclasses.replace(Digits().build(digits()), make_optimizer=make_optimizer)


class Surprise(nn.Module):
    """What no list of layers can foresee."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * 2 if values.sum().item() > 0 else values


class Tied(nn.Dropout):
    """Dropout by another name."""


UNSTACKABLE = [
    (with_model(nn.Linear(64, 8), nn.Dropout(), nn.Linear(8, 10)), r"model.1 \(Dropout\) draws random numbers"),
    (with_model(nn.Linear(64, 8), Tied(), nn.Linear(8, 10)), r"model.1 \(Tied\) draws random numbers"),
    (
        with_model(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)),
        r"model.1 \(BatchNorm1d\) uses batch stat",
    ),
    (with_model(nn.Linear(64, 10), Surprise()), r"torch.func cannot batch it"),
    (with_model(nn.Linear(64, 10).requires_grad_(False), nn.Linear(10, 10)), "model.0.weight is frozen"),
    (
        with_optimizer(lambda m: torch.optim.RMSprop(m.parameters(), lr=0.1)),
        "its optimizer is not SGD, Adam or AdamW with one parameter group, but RMSprop",
    ),
    (with_optimizer(lambda m: torch.optim.Adam(m.parameters(), amsgrad=True)), "its optimizer uses amsgrad"),
    (
        with_optimizer(lambda m: torch.optim.SGD([next(m.parameters())], lr=0.1)),
        "its optimizer does not train exactly the parameters of its model",
    ),
]


@pytest.mark.parametrize(("task", "words"), UNSTACKABLE)
def test_what_cannot_be_stacked_is_refused_with_the_remedy(task, words):
    with pytest.raises(ValueError, match=f"the task cannot be stacked: {words}.*Change that, or.*eager"):
        Population([task] * 3).reset([0, 1, 2])


@pytest.mark.parametrize(("task", "words"), UNSTACKABLE[:4])
def test_what_cannot_be_stacked_trains_by_the_eager_loop_if_asked(task, words):
    tasks = [Digits().build(digits()), task]
    population, runs = Population(tasks, unstackable="eager"), references(tasks, [1, 2])
    population.reset([1, 2])
    assert population.paths == ["mlp", "eager"]
    for window in range(3):
        compare(population, runs, window, np.array([4, 4]), rtol=1e-4)


def test_tasks_must_be_some_and_of_equal_buckets():
    with pytest.raises(ValueError, match="tasks must hold at least one task"):
        Population([])
    task = Digits().build(digits())
    other = dataclasses.replace(task, buckets=Buckets.from_scores(np.arange(len(task.buckets)), count=3))
    with pytest.raises(ValueError, match=r"tasks must have the same number of buckets, got \[3, 4\]"):
        Population([task, other])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("path", ["mlp", "module"])
def test_on_a_gpu_rows_are_the_same_runs(path):
    tasks = [double(Digits().build(config)) for config in VARIED]
    if path == "module":
        tasks = [double(with_model(nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 10)))] * 3
    seeds = list(range(len(tasks)))
    population, runs = Population(tasks, device="cuda"), references(tasks, seeds)
    population.reset(seeds)
    assert set(population.paths) == {path}
    for window in range(10):
        compare(population, runs, window, np.full(len(tasks), 4), 1e-9)
