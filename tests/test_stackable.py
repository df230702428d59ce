"""Models, losses and optimizers of all kinds through the population: stacked as they are, or not at all."""

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from rlsched import Buckets
from rlsched.envs.population import Population
from rlsched.envs.population.fingerprint import fingerprint, structure
from rlsched.envs.tasks import Task, TaskConfig
from rlsched.envs.tasks.losses import cross_entropy
from tests.test_population import compare, references


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01)


def task(
    make_model: Callable[[torch.Generator], nn.Module],
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adam,
    loss: Callable[..., Any] = cross_entropy,
    batch_size: int = 8,
    held_out: int = 20,
    seed: int = 0,
    scale: float = 1.0,
) -> Task:
    """Classification of random examples with 6 features in double precision."""
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(60, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (60,), generator=generator)
    config = TaskConfig(
        data_seed=0, num_steps=100, num_decisions=10, batch_size=batch_size, optimizer="adam", base_lr=0.01
    )
    return Task(
        config=config,
        make_model=make_model,
        make_optimizer=optimizer,
        loss=loss,
        train=TensorDataset(x, y),
        validation=(x[:held_out], y[:held_out]),
        test=(x[held_out:50], y[held_out:50]),
        buckets=Buckets.from_scores(np.arange(60.0), 2),
    )


def random(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """`model` with weights from the generator, in double precision."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    return model.double()


def plain(generator: torch.Generator) -> nn.Module:
    return random(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), generator)


class Net(nn.Module):
    """No `nn.Sequential`: stacked by torch.func. Its settings are attributes of all kinds."""

    def __init__(self, generator: torch.Generator, factor: float = 1.0, mask: Any = None) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)
        self._factor, self.mask = factor, mask
        self.calls = 0
        random(self, generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.first(x)) * self._factor
        if self.mask is not None:
            hidden = hidden * torch.as_tensor(np.asarray(self.mask)[:8])
        return self.second(hidden)


def agree(tasks: list[Task], paths: list[str], steps: int = 6) -> Population:
    """Every row is its `TorchRun`; it was computed by the path that is expected."""
    population, runs = Population(tasks, unstackable="eager"), references(tasks, range(len(tasks)))
    population.reset(range(len(tasks)))
    assert population.paths == paths
    for window in range(steps):
        n_steps = np.full(len(tasks), 2)
        scale = np.random.default_rng(window).uniform(0.5, 1.0, (len(tasks), 2))
        weights = np.full((len(tasks), 2), 0.5)
        mine = population.advance(n_steps, scale, weights)
        for row, run in enumerate(runs):
            theirs = run.advance(2, scale[row], weights[row])
            for name in ("loss", "grad_norm", "update_ratio", "grad_agreement", "bucket_loss"):
                expected = getattr(theirs, name)[0]
                np.testing.assert_allclose(getattr(mine, name)[row], expected, rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(population.validation_loss(), [run.validation_loss() for run in runs], rtol=1e-9)
    np.testing.assert_allclose(population.test_loss(), [run.test_loss() for run in runs], rtol=1e-9)
    return population


@pytest.mark.parametrize("make_model", [plain, Net])
@pytest.mark.parametrize(
    "settings",
    [
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"betas": (0.5, 0.9), "eps": 1e-3},
    ],
)
def test_forms_of_adam(make_model, settings):
    def optimizer(model):
        return torch.optim.Adam(model.parameters(), lr=0.01, **settings)

    tasks = [task(make_model, optimizer, seed=seed) for seed in range(3)]
    agree(tasks, ["mlp" if make_model is plain else "module"] * 3)


def with_attributes(factor: float, mask: Any) -> Callable[[torch.Generator], nn.Module]:
    return lambda generator: Net(generator, factor, mask)


LONG = np.concatenate([np.ones(2000), [1.0]])


@pytest.mark.parametrize(
    "others",
    [
        [with_attributes(factor, None) for factor in (1.0, 2.0, 3.0)],
        # Alike where NumPy and torch abbreviate them in print.
        [with_attributes(1.0, np.where(np.arange(2001) == place, 0.5, LONG)) for place in (4, 5, 6)],
    ],
)
def test_models_that_differ_in_an_attribute_are_not_stacked_with_each_other(others):
    agree([task(make) for make in others], ["eager"] * 3)
    agree([task(make) for make in others for _ in range(3)], ["module"] * 9)


def scaled(factors: torch.Tensor, model: nn.Module, batch: Any) -> torch.Tensor:
    return cross_entropy(model, batch) * factors[1500]


def test_losses_with_other_arguments_are_not_stacked_with_each_other():
    losses = [functools.partial(scaled, torch.ones(2000).index_fill(0, torch.tensor(1500), i)) for i in (1.0, 2.0)]
    tasks = [task(Net, loss=loss) for loss in losses for _ in range(3)]
    agree(tasks, ["module"] * 6)
    assert fingerprint(losses[0]) != fingerprint(losses[1])
    assert fingerprint(losses[0]) == fingerprint(copy.deepcopy(losses[0]))


def closure(factor: float) -> Callable[..., torch.Tensor]:
    return lambda model, batch: cross_entropy(model, batch) * factor


def test_closures_of_equal_contents_are_the_same_loss():
    agree([task(Net, loss=closure(2.0)) for _ in range(3)], ["module"] * 3)
    assert fingerprint(closure(2.0)) != fingerprint(closure(3.0))


@dataclasses.dataclass
class Unhashable:
    """A loss that cannot be a key of a dictionary."""

    factor: float

    def __call__(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return cross_entropy(model, batch) * self.factor


class LossModule(nn.Module):
    """A loss with parameters of its own, which nobody trains."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return cross_entropy(model, batch) * self.weight


@pytest.mark.parametrize("loss", [Unhashable(2.0), LossModule()])
def test_a_loss_may_be_any_callable(loss):
    agree([task(Net, loss=loss) for _ in range(3)], ["module"] * 3)
    if isinstance(loss, nn.Module):
        assert all(parameter.requires_grad for parameter in loss.parameters())


def tied(generator: torch.Generator) -> nn.Module:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    return random(nn.Sequential(first, nn.Tanh(), second), generator)


def normalised(generator: torch.Generator) -> nn.Module:
    model = plain(generator)
    nn.utils.parametrizations.weight_norm(next(iter(model.children())))
    return model


@pytest.mark.parametrize("make_model", [tied, normalised])
def test_mlps_with_tied_or_parametrised_weights_are_no_plain_mlps(make_model):
    population = Population([task(make_model, seed=seed) for seed in range(3)], unstackable="eager")
    population.reset(range(3))
    assert "mlp" not in population.paths
    agree([task(make_model, seed=seed) for seed in range(3)], population.paths)


class RandomFeatures(nn.Module):
    """Buffers that differ from run to run."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.out = nn.Linear(8, 3)
        random(self, generator)
        self.features: torch.Tensor
        self.register_buffer("features", torch.randn(6, 8, generator=generator, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(x @ self.features))


def test_random_buffers_are_part_of_a_rows_state():
    same = task(RandomFeatures)
    tasks = [same] * 3
    population = agree(tasks, ["module"] * 3)
    twin = Population(tasks)
    twin.reset([7, 8, 9])
    twin.load_state_dict(population.state_dict())
    np.testing.assert_array_equal(twin.validation_loss(), population.validation_loss())
    population.branch([0], [2])
    losses = population.validation_loss()
    assert losses[2] == pytest.approx(losses[0], rel=1e-12)
    assert losses[1] != losses[0]


def test_rows_may_be_branched_whatever_the_chunks():
    tasks = [task(Net)] * 4
    population = Population(tasks, chunk=3)
    population.reset(range(4))
    assert population.paths == ["module"] * 4
    population.branch([0], [3])
    losses = population.validation_loss()
    assert losses[3] == pytest.approx(losses[0], rel=1e-12)


def masked(model: nn.Module, batch: Any) -> torch.Tensor:
    """Not finite on an example of zeros: such must not be made up."""
    x, y = batch
    weights = (x.abs() > 1e-3).double()
    return cross_entropy(model, (x, y)) * (x.abs() * weights).sum(1) / weights.sum(1)


def test_padding_is_never_seen():
    agree([task(Net, loss=masked, held_out=size, seed=size) for size in (10, 20, 30)], ["module"] * 3)
    agree([task(plain, batch_size=size, seed=size) for size in (4, 8, 16)], ["mlp"] * 3)


def test_a_small_batch_beside_a_large_one_sees_its_own_examples_alone():
    # The first example of the data overflows; no batch draws it.
    tasks = [task(plain, batch_size=size, seed=3) for size in (4, 16)]
    for each in tasks:
        each.train.tensors[0][0] = 1e300  # type: ignore[attr-defined]
    tasks = [
        dataclasses.replace(each, buckets=Buckets(np.minimum(np.arange(60), 1), np.zeros(2))) for each in tasks
    ]
    population = Population(tasks)
    population.reset([0, 1])
    window = population.advance(np.full(2, 3), np.ones((2, 3)), np.array([[0.0, 1.0]] * 2))
    assert np.isfinite(window.loss).all()


def hooked(kind: str) -> Callable[[torch.Generator], nn.Module]:
    def make(generator: torch.Generator) -> nn.Module:
        model = plain(generator)
        if kind == "module":
            first = next(iter(model.children()))
            first.register_forward_hook(lambda module, inputs, output: output * 0.5)
        else:
            next(model.parameters()).register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
        return model

    return make


def clipping(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def clip(*_: Any) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)

    optimizer.register_step_pre_hook(clip)
    return optimizer


class Counting(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x) / self.calls


class Unused(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :3] * self.first.bias[:3]


class Augmented(TensorDataset):
    def __getitem__(self, index: Any) -> Any:
        x, y = super().__getitem__(index)
        return x * 2, y


def augmented() -> Task:
    made = task(plain)
    return dataclasses.replace(made, train=Augmented(*made.train.tensors))  # type: ignore[attr-defined]


def dictionary() -> Task:
    made = task(Net, loss=lambda model, batch: cross_entropy(model, (batch[0], batch[1])))
    return dataclasses.replace(made, test=dict(enumerate(made.test)))


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([task(hooked("module"))] * 3, r"model.0 \(Linear\) has hooks"),
        ([task(hooked("parameter"))] * 3, "its optimizer or parameters have hooks"),
        ([task(plain, clipping)] * 3, "its optimizer or parameters have hooks"),
        ([task(Counting)] * 3, "changes its own attributes or buffers when it is called"),
        ([task(Unused)] * 3, "torch.func cannot batch it"),
        ([augmented()] * 3, "its data set is not a TensorDataset, but a Augmented"),
        ([dictionary()] * 3, "its test data are not tensors like its training data"),
        (
            [task(plain, lambda model: torch.optim.Adam(model.parameters(), lr=0.01, eps=0.0))] * 3,
            "its optimizer has an eps of 0",
        ),
    ],
)
def test_what_a_stack_would_get_wrong_is_left_to_eager_loops(tasks, words):
    with pytest.raises(ValueError, match=words):
        Population(tasks).reset(range(3))
    population = Population(tasks, unstackable="eager")
    population.reset(range(3))
    assert population.paths == ["eager"] * 3
    runs = references(tasks, range(3))
    compare_losses(population, runs)


def compare_losses(population: Population, runs: list[Any]) -> None:
    scale, weights = np.ones((3, 3)), np.full((3, 2), 0.5)
    mine = population.advance(np.full(3, 3), scale, weights)
    theirs = [run.advance(3, scale[0], weights[0]) for run in runs]
    np.testing.assert_allclose(mine.loss, [window.loss[0] for window in theirs], rtol=1e-12)


def test_idle_eager_rows_tell_where_they_are():
    tasks = [task(hooked("parameter"))] * 2
    population = Population(tasks, unstackable="eager")
    population.reset([0, 1])
    start = population.state_dict()
    population.advance(np.array([4, 4]), np.ones((2, 4)), np.full((2, 2), 0.5))
    population.load_state_dict(start)
    window = population.advance(np.array([0, 2]), np.ones((2, 4)), np.full((2, 2), 0.5))
    assert window.step.tolist() == [0, 2]
    assert window.decision.tolist() == [0, 1]


def test_many_buckets_and_rows_do_not_overflow():
    wide = task(plain)
    tasks = [dataclasses.replace(wide, buckets=Buckets.from_scores(np.arange(60.0), 60))] * 600
    population, runs = Population(tasks, chunk=600), references(tasks[:1], [0])
    population.reset([0] * 600)
    compare_first(population, runs[0])


def compare_first(population: Population, run: Any) -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(60))
    mine = population.advance(np.full(600, 2), np.ones((600, 2)), np.tile(weights, (600, 1)))
    theirs = run.advance(2, np.ones(2), weights)
    np.testing.assert_allclose(mine.loss, theirs.loss[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_steps": np.array([1])}, "n_steps must be 2 integers >= 0"),
        ({"n_steps": np.array([-1, 1])}, "n_steps must be 2 integers >= 0"),
        ({"lr_scale": np.ones((2, 1))}, r"lr_scale must have shape \(2, >= 2\), got \(2, 1\)"),
        ({"lr_scale": np.full((2, 2), np.nan)}, "lr_scale must be finite"),
        ({"bucket_weights": np.ones((2, 3))}, r"bucket_weights must have shape \(2, 2\), got \(2, 3\)"),
        ({"bucket_weights": np.full((2, 2), np.nan)}, "bucket_weights must be >= 0"),
    ],
)
def test_a_population_refuses_a_schedule_that_does_not_fit(changes, words):
    population = Population([task(plain)] * 2)
    fitting = {"n_steps": np.array([2, 2]), "lr_scale": np.ones((2, 2)), "bucket_weights": np.full((2, 2), 0.5)}
    with pytest.raises(ValueError, match="call reset"):
        population.advance(**fitting)
    with pytest.raises(ValueError, match="seeds must be one for each of 2 tasks, got 1"):
        population.reset([0])
    population.reset([0, 1])
    with pytest.raises(ValueError, match=words):
        population.advance(**(fitting | changes))


def test_structures_tell_tied_models_from_others():
    generator = torch.Generator().manual_seed(0)
    loose = random(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)), generator)
    assert structure(tied(generator)) != structure(loose)
    assert structure(plain(generator)) == structure(plain(generator))


def test_rows_of_modules_may_be_advanced_by_different_numbers_of_steps():
    tasks = [task(Net, seed=seed) for seed in range(3)]
    tasks = [dataclasses.replace(each, buckets=Buckets.from_scores(np.arange(60.0), 4)) for each in tasks]
    population, runs = Population(tasks), references(tasks, range(3))
    population.reset(range(3))
    for window in range(4):
        compare(population, runs, window, np.array([3, 1, 5]), 1e-9)
