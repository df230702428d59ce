"""Driving runs from their first step to their last, against stepping one by hand."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest

from rlsched import Constant, Cosine, Linear, PolicyController
from rlsched.contract import Array, Window
from rlsched.controllers.schedules import OpenLoop
from rlsched.envs.drive import drive, trace
from rlsched.envs.population import Population
from rlsched.envs.population.eager_block import EagerBlock
from rlsched.envs.tasks import Task
from rlsched.envs.torch_run import TorchRun
from tests.families import Gentle, Touchy
from tests.policies import random_policy


def tasks_of(family=None, lengths=((14, 5), (20, 10), (33, 7))) -> list[Task]:
    """Tasks of different lengths."""
    family, rng, found = family or Gentle(), np.random.default_rng(0), []
    for steps, decisions in lengths:
        config = dataclasses.replace(family.sample(rng), num_steps=steps, num_decisions=decisions)
        found.append(family.build(config))
    return found


def by_hand(task, seed, controller) -> float:
    """One run alone, window by window."""
    run = TorchRun(task)
    run.reset(seed)
    state, window = controller.init(run.spec), Window.opening(run.spec)
    while int(window.step[0]) < task.config.num_steps:
        state, decision = controller.decide(state, window)
        window = run.advance(int(window.steps_ahead[0]), decision.lr_scale[0], decision.bucket_weights[0])
        if window.nonfinite[0]:
            return np.inf
    return run.validation_loss()


def eager(tasks, seeds) -> EagerBlock:
    runs = [TorchRun(task) for task in tasks]
    for run, seed in zip(runs, seeds, strict=True):
        run.reset(seed)
    return EagerBlock(runs)


def stacked(tasks, seeds) -> Population:
    population = Population(tasks)
    population.reset(seeds)
    return population


@pytest.mark.parametrize(
    "controller", [Linear(), Cosine(), PolicyController(random_policy(0))], ids=lambda c: type(c).__name__
)
def test_driven_runs_are_those_stepped_by_hand(controller):
    tasks, seeds = tasks_of(), [3, 4, 5]
    expected = [by_hand(task, seed, controller) for task, seed in zip(tasks, seeds, strict=True)]
    # Some machines round a network's products of three rows other than those of one.
    rtol = 1e-6 if isinstance(controller, PolicyController) else 0.0
    np.testing.assert_allclose(drive(eager(tasks, seeds), controller), expected, rtol=rtol)
    np.testing.assert_allclose(drive(stacked(tasks, seeds), controller), expected, rtol=2e-3)


@pytest.mark.parametrize("engine", [eager, stacked])
def test_a_run_stops_where_it_diverges_and_counts_as_infinite(engine):
    """`Touchy` runs at a constant learning rate diverge; those of `Gentle` beside them do not."""
    (wild,), calm = tasks_of(Touchy(), [(40, 10)]), tasks_of()
    tasks, seeds = [calm[0], wild, calm[1]], [3, 4, 5]
    built = engine(tasks, seeds)
    losses = drive(built, Linear())
    assert np.isinf(losses).tolist() == [False, True, False]
    assert by_hand(wild, 4, Linear()) == np.inf
    for row, task in ((0, 0), (2, 1)):
        assert losses[row] == pytest.approx(by_hand(calm[task], seeds[row], Linear()), rel=2e-3)
    # It was trained no further.
    steps = built.advance(np.zeros(3, dtype=int), np.ones((3, 1)), built.spec.bucket_shares).step
    assert steps[0] == 14
    assert steps[2] == 20
    assert steps[1] < 40


@dataclass(frozen=True)
class Late(OpenLoop):
    """No learning rate until the middle of the run, then a huge one."""

    def profile(self, progress: Array) -> Array:
        return np.where(progress < 0.5, 0.0, 1e38)


def test_a_run_that_only_its_validation_loss_shows_to_be_ruined_is_infinite_too():
    """The last of two steps ruins it: no training loss comes after."""
    (task,) = tasks_of(Touchy(), [(2, 1)])
    assert drive(eager([task], [0]), Late())[0] == np.inf


def test_no_validation_loss_is_reported():
    seen = []

    class Watching(Linear):
        def decide(self, state, window):
            seen.append(window.validation_loss)
            return super().decide(state, window)

    tasks = tasks_of()
    assert any(task.config.feedback for task in tasks_of(lengths=[(14, 5)] * 8))
    drive(eager(tasks, [3, 4, 5]), Watching())
    assert np.isnan(seen).all()


def test_a_decision_that_does_not_fit_is_refused():
    class Narrow(Linear):
        def profile(self, progress):
            return super().profile(progress)[:, :1]

    with pytest.raises(ValueError, match=r"Decision.lr_scale must have shape"):
        drive(eager(tasks_of(), [3, 4, 5]), Narrow())


def test_a_traced_run_is_the_driven_one_and_says_how_it_went():
    tasks, seeds = tasks_of(), [3, 4, 5]
    policy = PolicyController(random_policy(0))
    silent = np.zeros(3, dtype=bool)
    found = trace(stacked(tasks, seeds), policy, silent)
    np.testing.assert_array_equal(found.final, drive(stacked(tasks, seeds), policy))
    for row, task in enumerate(tasks):
        steps = found.steps[row, np.isfinite(found.steps[row])]
        assert steps[0] == 1
        assert steps[-1] == task.config.num_steps
        assert len(steps) == task.config.num_decisions + 1
        assert found.validation[row, len(steps) - 1] == found.final[row]
        assert np.isnan(found.validation[row, len(steps) :]).all()
        assert (found.bucket_weights[row, : len(steps)].sum(axis=1) > 0.999).all()
    linear = trace(stacked(tasks, seeds), Linear(), silent)
    np.testing.assert_allclose(linear.lr_scale[0, 1], 1 - 1 / tasks[0].config.num_steps)


def test_validation_losses_are_reported_where_they_are_asked_for():
    tasks = [tasks_of()[2]] * 2
    found = trace(stacked(tasks, [3, 3]), PolicyController(random_policy(0, gain=3.0)), np.array([True, False]))
    assert found.lr_scale[0, 0] == found.lr_scale[1, 0]
    assert (found.lr_scale[0, 1:] != found.lr_scale[1, 1:]).any()


def test_a_traced_run_that_fails_stays_failed():
    task = tasks_of()[2].with_base_lr(1e30)
    found = trace(stacked([task], [3]), Constant(), np.zeros(1, dtype=bool))
    assert found.final[0] == np.inf
    assert found.validation[0, np.isfinite(found.steps[0])][-1] == np.inf
