"""Every family through the population: each row is the `TorchRun` of its task, whatever is the matter with it."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from rlsched.contract import Window
from rlsched.envs import TorchRun
from rlsched.envs.population import Population
from rlsched.envs.tasks import FAMILIES, Quadratics, TaskConfig
from tests.test_population import compare, double, references

OPTIMIZERS = {"sgd": 0.01, "adam": 0.001, "adamw": 0.001, "plain_sgd": 0.05}
"""With learning rates short of chaos."""
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("digits", {}),
    ("tabular", {"source": "diabetes"}),
    ("tabular", {"source": "wine"}),
    ("teacher", {}),
    ("digits_cnn", {"channels": 4}),
    ("digits_cnn", {"channels": 4, "normalised": True}),
    ("signals", {"model": "mlp"}),
    ("signals", {"model": "cnn"}),
    ("signals", {"model": "cnn", "normalised": True}),
    ("characters", {"model": "gru", "width": 16, "layers": 1}),
    ("characters", {"model": "transformer", "width": 16, "layers": 1}),
    ("characters", {"model": "transformer", "width": 16, "layers": 1, "norm_first": False}),
    ("parity", {}),
    ("modular", {}),
    ("autoencoder", {}),
    ("diffusion", {}),
]
PATHS = {"digits_cnn": "module", "cnn": "module", "gru": "module", "transformer": "module", "modular": "module"}


def sampled(name: str, count: int, optimizer: str, changes: dict) -> list:
    """Tasks of one family that can be computed together, each with something else the matter."""
    family = FAMILIES[name]()
    rng = np.random.default_rng(4)
    first = dataclasses.replace(family.sample(rng), **changes, batch_size=8, optimizer=optimizer)
    tasks = []
    for row in range(count):
        config: TaskConfig = dataclasses.replace(family.sample_like(rng, first), base_lr=OPTIMIZERS[optimizer])
        if hasattr(config, "drift"):
            ill: list[dict[str, Any]] = [
                {"drift": 0.5, "probed": True},
                {"bucket_by": "online"},
                {"domain_skew": 1.0, "duplicates": 0.3},
            ]
            config = dataclasses.replace(config, num_steps=120, num_decisions=10, **ill[row % 3])
        tasks.append(family.build(config))
    return tasks


def check(tasks, steps: int, rtol: float, path: str | None = None) -> None:
    population, runs = Population(tasks), references(tasks, range(len(tasks)))
    population.reset(range(len(tasks)))
    if path is not None:
        assert set(population.paths) == {path}
    for window in range(steps):
        compare(population, runs, window, np.ones(len(tasks), dtype=int), rtol)
    for mine, theirs in (
        (population.validation_loss(), [run.validation_loss() for run in runs]),
        (population.test_loss(), [run.test_loss() for run in runs]),
    ):
        np.testing.assert_allclose(mine, theirs, rtol=max(rtol, 1e-6))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_every_family_and_optimizer_in_double_precision(name, changes, optimizer):
    tasks = [double(task) for task in sampled(name, 3, optimizer, changes)]
    check(tasks, 100, 1e-9, PATHS.get(changes.get("model", name), "mlp"))


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_every_family_in_single_precision(name, changes):
    # Ranks of losses, on which online buckets rest, may differ by rounding; they are compared above.
    tasks = [task for task in sampled(name, 9, "adam", changes) if not task.online][:3]
    check(tasks, 100, 1e-4)


def test_quadratics_with_their_own_curvatures():
    family, rng = Quadratics(), np.random.default_rng(0)
    first = family.sample(rng)
    configs = [
        dataclasses.replace(first, data_seed=int(rng.integers(99)), base_lr=0.05, condition=condition)
        for condition in (1.0, 10.0, 19.0, 300.0)
    ]
    tasks = [double(family.build(config)) for config in configs]
    population = Population(tasks)
    population.reset(range(4))
    assert len(population._blocks) == 1, "they are one stack"
    check(tasks, 100, 1e-9, "module")


def test_rows_of_modules_do_not_influence_each_other():
    tasks = sampled("digits_cnn", 4, "sgd", {"channels": 4})
    one, other = Population(tasks), Population(tasks)
    one.reset([0, 1, 2, 3])
    other.reset([0, 1, 2, 99])
    weights = np.full((4, 4), 0.25)
    for _ in range(4):
        scale, scale_too = np.ones((4, 5)), np.ones((4, 5))
        scale_too[3] = 1e30  # it diverges
        mine, theirs = (p.advance(np.full(4, 5), s, weights) for p, s in ((one, scale), (other, scale_too)))
        np.testing.assert_array_equal(mine.loss[:3], theirs.loss[:3])
        np.testing.assert_array_equal(mine.grad_norm[:3], theirs.grad_norm[:3])
    np.testing.assert_array_equal(one.validation_loss()[:3], other.validation_loss()[:3])
    assert not np.isfinite(other.validation_loss()[3])


@pytest.mark.parametrize(("name", "changes"), [("digits", {}), ("digits_cnn", {"channels": 4})])
def test_a_population_of_any_kind_is_restored_and_branched(name, changes):
    """With online buckets, drift and probes among the rows."""
    tasks = sampled(name, 3, "adam", changes)
    tasks = [*tasks, *tasks]
    population, twin = Population(tasks), Population(tasks)
    population.reset(range(6))
    twin.reset(range(10, 16))
    weights = np.random.default_rng(0).dirichlet(np.ones(4), 6)
    population.advance(np.full(6, 7), np.ones((6, 7)), weights)
    saved = population.state_dict()
    straight = [population.advance(np.full(6, 4), np.ones((6, 4)), weights) for _ in range(2)]
    twin.load_state_dict(saved)
    again = [twin.advance(np.full(6, 4), np.ones((6, 4)), weights) for _ in range(2)]
    for mine, theirs in zip(straight, again, strict=True):
        equal(mine, theirs)
    population.branch([0, 1, 2], [3, 4, 5])
    weights = np.concatenate([weights[:3], weights[:3]])
    window = population.advance(np.full(6, 8), np.ones((6, 8)), weights)
    np.testing.assert_allclose(window.loss[3:], window.loss[:3], rtol=1e-5)
    np.testing.assert_allclose(window.bucket_loss[3:], window.bucket_loss[:3], rtol=1e-4)


def equal(one: Window, other: Window) -> None:
    for field in dataclasses.fields(Window):
        if field.name != "spec":
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


def test_few_rows_of_a_module_are_eager_loops_and_the_same_runs():
    tasks = sampled("digits_cnn", 2, "sgd", {"channels": 4})
    population, runs = Population(tasks), [TorchRun(task) for task in tasks]
    population.reset([1, 2])
    assert population.paths == ["eager", "eager"]
    assert population.reasons == ["fewer than 3 runs have its structure, loss and batch size"] * 2
    for seed, run in zip([1, 2], runs, strict=True):
        run.reset(seed)
    for window in range(3):
        compare(population, runs, window, np.array([3, 0]) if window == 1 else np.array([2, 2]), 1e-12)


def test_a_probe_measures_each_bucket_at_the_end_of_the_window():
    task = next(task for task in sampled("digits", 3, "sgd", {}) if task.probe is not None)
    run = TorchRun(task)
    run.reset(0)
    window = run.advance(5, np.ones(5), run.spec.bucket_shares[0])
    index = task.probe
    losses = task.loss(run.model, [values[index] for values in task.train.tensors]).detach().numpy()
    means = [losses[task.buckets.ids[index] == bucket].mean() for bucket in range(4)]
    np.testing.assert_allclose(window.bucket_loss[0], means, rtol=1e-6)


def test_before_the_shift_a_run_trains_on_other_data():
    tasks = sampled("digits", 9, "sgd", {})
    task = next(task for task in tasks if task.drifted is not None and not task.online)
    assert 0 < task.drift_until < task.config.num_steps
    plain = dataclasses.replace(task, drifted=None)
    runs = [TorchRun(each) for each in (task, plain)]
    losses = []
    for run in runs:
        run.reset(0)
        windows = [run.advance(1, np.zeros(1), run.spec.bucket_shares[0]) for _ in range(task.drift_until + 5)]
        losses.append([float(window.loss[0]) for window in windows])
    # At a learning rate of zero only the data make a difference.
    before, after = slice(0, task.drift_until), slice(task.drift_until, None)
    assert np.mean(np.isclose(losses[0][before], losses[1][before])) < 0.1
    np.testing.assert_array_equal(losses[0][after], losses[1][after])
