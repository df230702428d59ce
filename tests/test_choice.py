"""The curriculum to imitate: what costs least on average over all states that look alike."""

import numpy as np
import pytest
import torch

from rlsched.agents.imitation import SearchUnit, TunedGroup
from rlsched.agents.imitation.choice import LEAST, choose, mixed_logits
from rlsched.agents.imitation.followed import POINTS, at_progress
from rlsched.agents.imitation.search import GRID, SHARPNESS, WORST
from rlsched.contract import Array
from rlsched.controllers.curriculum.fixed import curricula
from tests.imitations import setting, softmax

COUNT, CHOICES = 16_000, 5


def shares(seen: Array, costs: Array, seed: int = 0) -> Array:
    return choose(torch.as_tensor(seen, dtype=torch.float32), costs, np.random.default_rng(seed))


def test_each_kind_of_state_gets_what_costs_least_there():
    """Two kinds that can be told apart, each with one curriculum that brings a tenth, the rest costing as much."""
    kind = np.arange(COUNT) % 2
    costs = np.full((COUNT, CHOICES), 0.1)
    costs[:, 0] = 0.0
    costs[kind == 0, 2] = costs[kind == 1, 4] = -0.1
    found = shares(np.stack([2.0 * kind - 1.0, np.ones(COUNT)], axis=1), costs)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
    assert (found >= 0.0).all()
    assert found[kind == 0, 2].min() > 0.9
    assert found[kind == 1, 4].min() > 0.9


def test_where_states_look_alike_the_mean_decides():
    """Half of the tasks gain 0.2 by it and half lose 0.3, and nobody can tell which: leave it."""
    costs = np.zeros((COUNT, 2))
    costs[:, 1] = np.where(np.arange(COUNT) % 2, -0.2, 0.3)
    assert shares(np.ones((COUNT, 3)), costs)[:, 0].min() > 0.9
    costs[:, 1] = np.where(np.arange(COUNT) % 2, -0.3, 0.2)
    assert shares(np.ones((COUNT, 3)), costs)[:, 1].min() > 0.9


def test_chance_does_not_choose():
    """In single runs, noise makes another curriculum the best one of nearly every task."""
    rng = np.random.default_rng(0)
    costs = rng.normal(0.02, 0.15, (COUNT, CHOICES))
    costs[:, 0] = 0.0
    costs[:, 3] -= 0.08
    assert np.bincount(costs.argmin(axis=1), minlength=CHOICES)[3] < 0.5 * COUNT
    assert shares(rng.normal(size=(COUNT, 3)), costs)[:, 3].mean() > 0.8


def test_what_brings_next_to_nothing_is_left_alone():
    costs = np.zeros((COUNT, 2))
    costs[:, 1] = -0.5 * LEAST
    assert shares(np.ones((COUNT, 3)), costs)[:, 0].min() > 0.9
    costs[:, 1] = -5.0 * LEAST
    assert shares(np.ones((COUNT, 3)), costs)[:, 1].min() > 0.9


def test_one_disaster_does_not_decide():
    costs = np.zeros((COUNT, 2))
    costs[:, 1] = -0.1
    costs[::50, 1] = 8.0
    assert costs[:, 1].mean() > 0.0
    assert shares(np.ones((COUNT, 3)), costs)[:, 1].min() > 0.9


def test_a_choice_depends_on_its_generator_alone():
    rng = np.random.default_rng(0)
    seen, costs = rng.normal(size=(200, 3)), rng.normal(size=(200, CHOICES))
    one = shares(seen, costs)
    torch.rand(7)
    np.testing.assert_array_equal(shares(seen, costs), one)
    assert not np.array_equal(shares(seen, costs, seed=1), one)


@pytest.mark.parametrize("followed", [0, 2])
def test_logits_are_mixed_state_by_state(followed):
    rng = np.random.default_rng(0)
    progress, each = rng.random(6), curricula(4)
    weights = softmax(rng.standard_normal((6, len(each) + followed)))
    others = rng.standard_normal((6, followed, 4))
    found = mixed_logits(weights, progress, others)
    for row in range(6):
        expected = np.zeros(4)
        for share, curriculum in zip(weights[row], each, strict=False):
            expected += share * curriculum.logits(progress[row])
        for share, logits in zip(weights[row, len(each) :], others[row], strict=True):
            expected += share * logits
        np.testing.assert_allclose(found[row], expected, atol=1e-12)


def test_logits_of_curricula_that_follow_are_those_of_the_latest_point():
    logits = np.random.default_rng(0).standard_normal((4, 2, POINTS, 3))
    progress = np.array([0.0, 0.149, 0.15, 1.0], dtype=np.float32)
    found = at_progress(progress, logits)
    for row, point in enumerate((0, 2, 3, POINTS - 1)):
        np.testing.assert_array_equal(found[row], logits[row, :, point])


def test_costs_are_differences_to_the_natural_mixture():
    behind = np.array([0.03, 0.0, 0.5, 20.0])
    likely = softmax(-behind / SHARPNESS)
    none = np.zeros((1, 0, POINTS, 4))
    group = TunedGroup(2, np.zeros(1), np.zeros((1, len(GRID))), likely[None], none)
    np.testing.assert_allclose(group.costs[0], [0.0, -0.03, 0.47, WORST], atol=1e-9)


def test_what_was_not_searched_for_costs_the_most():
    found = SearchUnit(2, 3, buckets=False).run(setting(), {}).costs
    np.testing.assert_array_equal(
        found, np.where(np.arange(found.shape[1]) == 0, 0.0, WORST)[None].repeat(3, axis=0)
    )
