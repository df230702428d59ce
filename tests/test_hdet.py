"""HDET, and the mean of runs that it is made of."""

import numpy as np
import pytest
import torch

from rlsched import Cosine, Linear
from rlsched.envs.drivers.hdet import HDET
from rlsched.envs.drivers.plain import train
from rlsched.envs.population import Population
from rlsched.envs.population.average import average, mean_state
from rlsched.envs.tasks import Quadratics, QuadraticsConfig
from tests.small_runs import counted, same, small


def population(chosen, seeds, *, eager):
    """Runs of one task; a hook keeps them from being stacked."""
    made = Population([counted(chosen)[0] if eager else chosen] * len(seeds), unstackable="eager")
    made.reset(seeds)
    assert (made.paths[0] == "eager") == eager
    return made


def advance(runs, steps, scales):
    rows = len(runs.tasks)
    scale = np.broadcast_to(np.array(scales)[:, None], (rows, steps))
    return runs.advance(np.full(rows, steps), scale, runs.spec.bucket_shares)


def tensors(runs, row):
    """Every float tensor of where a run stands: parameters, moments and the last gradient."""

    def walk(state):
        if isinstance(state, dict):
            state = list(state.values())
        if isinstance(state, (list, tuple)):
            return [tensor for part in state for tensor in walk(part)]
        return [state] if isinstance(state, torch.Tensor) and state.is_floating_point() else []

    return walk(runs.row_state(row))


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_mean_of_runs_is_that_of_their_parameters_and_moments(eager, optimizer):
    runs = population(small(optimizer=optimizer), [1, 2, 3, 4], eager=eager)
    advance(runs, 7, [0.5, 1.0, 1.5, 2.0])
    before = [tensors(runs, row) for row in range(4)]
    average(runs, [0, 2, 3], [1, 2])
    for each, *kept in zip(*(tensors(runs, row) for row in (1, 2)), *before, strict=True):
        other, (first, _, third, fourth) = kept[0], kept[1:]
        torch.testing.assert_close(each, (first + third + fourth) / 3)
        assert torch.equal(each, other)
    # Whoever is no target stays.
    for row in (0, 3):
        assert all(map(torch.equal, tensors(runs, row), before[row]))
    # The targets are one run now.
    advance(runs, 5, [1.0] * 4)
    assert all(map(torch.equal, tensors(runs, 1), tensors(runs, 2)))


@pytest.mark.parametrize("eager", [True, False])
def test_the_mean_of_equal_runs_is_that_run_to_the_bit(eager):
    runs = population(small(), [1, 1, 1], eager=eager)
    advance(runs, 7, [1.0, 1.0, 1.0])
    before = tensors(runs, 0)
    average(runs, [0, 1, 2], [0, 1, 2])
    assert all(map(torch.equal, tensors(runs, 0), before))


def test_what_is_not_a_float_is_that_of_the_first():
    states = [{"w": (torch.tensor([value]), 7), "n": torch.tensor([int(value)])} for value in (1.0, 3.0)]
    assert mean_state(states) == {"w": (torch.tensor([2.0]), 7), "n": torch.tensor([1])}


@pytest.mark.parametrize("eager", [True, False])
def test_runs_can_keep_their_own_draws(eager):
    runs = population(small(), [1, 2], eager=eager)
    average(runs, [0], [0, 1], own_draws=True)
    assert all(map(torch.equal, tensors(runs, 0), tensors(runs, 1)))
    window = advance(runs, 1, [1.0, 1.0])
    assert window.loss[0] != window.loss[1]
    average(runs, [0], [1])
    window = advance(runs, 1, [1.0, 1.0])
    assert window.loss[0] == window.loss[1]


def test_only_runs_of_one_task_are_averaged():
    runs = Population([small(), small()])
    runs.reset([0, 0])
    with pytest.raises(ValueError, match=r"rows \[0, 1\] are of different tasks: average rows of one"):
        average(runs, [0], [1])
    with pytest.raises(ValueError, match="sources must hold at least one row"):
        average(runs, [], [1])
    with pytest.raises(ValueError, match="row must be of 2 runs, got 2"):
        runs.row_state(2)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
@pytest.mark.parametrize("bucket_by", ["difficulty", "online"])
def test_without_a_spread_and_with_common_batches_it_is_a_plain_run(schedule, bucket_by):
    chosen = small(bucket_by=bucket_by)
    driver = HDET(replicas=3, spread=0.0, schedule=schedule, common_batches=True)
    found, expected = driver.run(chosen, 2), train(chosen, schedule, 2)
    np.testing.assert_allclose(found.validation, expected.validation, rtol=1e-4)
    assert found.test == pytest.approx(expected.test, rel=1e-4)
    np.testing.assert_allclose(found.lr, expected.lr, rtol=1e-12)
    assert found.spent == 3 * expected.spent
    # Eager replicas do exactly what an eager run does.
    exact = driver.run(counted(chosen)[0], 2)
    assert same(exact, expected, but=("spent", "lr"))


def test_one_replica_is_a_plain_run():
    found, expected = HDET(replicas=1).run(counted(small())[0], 2), train(small(), Linear(), 2)
    assert same(found, expected)


def test_factors_are_symmetric():
    np.testing.assert_allclose(HDET(replicas=4, spread=0.3).factors, [0.7, 0.9, 1.1, 1.3])
    assert HDET(replicas=1, spread=0.3).factors.tolist() == [1.0]


def test_the_learning_rate_follows_the_losses_as_computed_by_hand():
    driver = HDET(replicas=2, spread=0.5, temperature=0.1)
    # Scores of +-1: weights e / (e + 1/e) and 1/e / (e + 1/e).
    sound = np.array([True, True])
    assert driver._signal(np.array([1.1, 0.9]), sound) == pytest.approx(0.5 * np.tanh(1.0))
    assert driver._signal(np.array([0.9, 1.1]), sound) == pytest.approx(-0.5 * np.tanh(1.0))
    assert driver._signal(np.array([0.4, 0.4]), sound) == 0.0
    assert driver._signal(np.array([5.0, np.inf]), np.array([True, False])) == -0.5


def test_a_low_learning_rate_rises_and_does_better_for_it():
    low, driver = small(base_lr=1e-3), HDET(temperature=1e-3, common_batches=True)
    for seed in range(2):
        found, plain = driver.run(low, seed), train(low, Linear(), seed)
        assert found.lr[len(found.lr) // 2] > 2.0 * plain.lr[len(plain.lr) // 2]
        assert found.validation[-1] < 0.9 * plain.validation[-1]


def test_without_a_gain_the_learning_rate_is_the_schedule():
    found = HDET(gain=0.0).run(small(), 0)
    np.testing.assert_allclose(found.lr, train(small(), Linear(), 0).lr, rtol=1e-12)


def test_seeds_decide_everything():
    assert same(HDET().run(small(), 1), HDET().run(small(), 1))
    assert not same(HDET().run(small(), 1), HDET().run(small(), 2))


def test_the_steps_of_all_replicas_are_counted():
    watched, steps = counted(small())
    found = HDET(replicas=3).run(watched, 0)
    assert found.spent == len(steps) == 180
    assert found.steps[-1] == 60


@pytest.mark.parametrize("eager", [True, False])
def test_a_replica_that_fails_is_left_out(eager):
    """Of two replicas one has no learning rate and the other a ruinous one: the model stays as it was."""
    config = QuadraticsConfig(
        data_seed=0, num_steps=40, num_decisions=10, batch_size=4, base_lr=1e30, curriculum=False
    )
    watched, steps = counted(Quadratics().build(config))
    wild = watched if eager else Quadratics().build(config)
    found = HDET(replicas=2, spread=1.0, gain=0.0).run(wild, 0)
    assert len(set(found.validation.tolist())) == 1
    assert np.isfinite(found.test)
    assert found.steps[-1] == 40
    assert found.spent < 80
    assert found.spent == len(steps) or not eager
    lost = HDET(replicas=2, spread=0.5).run(wild, 0)
    assert lost.validation[-1] == lost.test == np.inf
    assert lost.steps[-1] < 40


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"replicas": 0}, ValueError, "replicas must be an integer >= 1, got 0"),
        ({"spread": 1.5}, ValueError, "spread must be a finite number in"),
        ({"momentum": 1.0}, ValueError, "momentum must be a finite number in"),
        ({"temperature": 0.0}, ValueError, "temperature must be a finite number >= 1e-06"),
        ({"gain": -1.0}, ValueError, "gain must be a finite number >= 0"),
        ({"schedule": Linear}, TypeError, "schedule must be an open-loop schedule, got the class Linear"),
        ({"common_batches": 1}, TypeError, "common_batches must be True or False, got 1"),
    ],
)
def test_bad_settings_are_refused(changes, error, words):
    with pytest.raises(error, match=words):
        HDET(**changes)
