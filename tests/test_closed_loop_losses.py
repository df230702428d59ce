"""Controllers that go by the loss alone, against the libraries' own objects and slow references."""

import math

import numpy as np
import pytest
import torch

from rlsched import Constant, Cosine, RunSpec
from rlsched.controllers.closed_loop import Greedy, Plateau, VolSched
from tests.closed_loops import feed, scales

BASE_LR = 0.1
RUN = RunSpec.single(400, 300, BASE_LR, adaptive=False)


def losses(seed, count=300):
    """Losses that fall, stall and jump, so that every branch is taken."""
    rng = np.random.default_rng(seed)
    level = np.cumsum(rng.choice([-0.3, -0.02, 0.0, 0.05], count, p=[0.15, 0.35, 0.3, 0.2]))
    return (3.0 * np.exp(0.2 * level) + 0.02 * rng.random(count)).tolist()


def followed(scheduler, optimizer, metrics):
    """Learning rates of a scheduler of torch's kind after each metric."""
    rates = []
    for metric in metrics:
        scheduler.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def sgd():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE_LR)


@pytest.mark.parametrize("reported", ["loss", "validation_loss"])
@pytest.mark.parametrize(
    ("settings", "floor"),
    [
        ({"factor": 0.5, "patience": 2}, 1e-4),
        ({"factor": 0.9, "patience": 0, "threshold": 0.05}, 1e-2),
        ({"factor": 0.8, "patience": 3, "cooldown": 5}, 1e-2),
        ({"factor": 0.8, "patience": 1, "cooldown": 2, "threshold": 0.1, "threshold_mode": "abs"}, 0.05),
    ],
)
def test_a_plateau_is_seen_as_torch_sees_it(settings, floor, reported):
    metrics, optimizer = losses(0), sgd()
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **settings, min_lr=floor * BASE_LR, eps=0.0)
    expected = followed(theirs, optimizer, metrics)
    found = scales(Plateau(**settings, min_scale=floor), RUN, **{reported: metrics})
    np.testing.assert_allclose(BASE_LR * np.array(found), expected, rtol=1e-9)
    assert len(set(expected)) > 4


def test_a_window_that_diverged_is_a_bad_one_as_in_torch():
    metrics, optimizer = [math.inf, 2.0, math.inf, math.inf, 1.0, math.inf], sgd()
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, eps=0.0)
    found = scales(Plateau(factor=0.5, patience=1), RUN, loss=metrics)
    np.testing.assert_allclose(BASE_LR * np.array(found), followed(theirs, optimizer, metrics))
    assert found[-1] == 0.5


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        ({"factor": 0.8, "patience": 0}, (0.1, 4.0)),
        ({"factor": 0.9, "patience": 2, "cooldown": 3, "warmup": 1}, (0.5, 2.0)),
        ({"factor": 0.7, "patience": 1, "cooldown": 1, "threshold": 0.05, "threshold_mode": "rel"}, (0.3, 10.0)),
        ({"factor": 0.8, "patience": 0, "smooth": True, "window_size": 4, "warmup": 2}, (0.1, 4.0)),
        ({"factor": 0.5, "patience": 0, "cooldown": 2, "reset_start": 3}, (0.2, 2.0)),
        ({"factor": 0.5, "patience": 0, "smooth": True, "window_size": 3, "reset_start": 1}, (0.1, 2.0)),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_moves_are_those_of_transformers(settings, limits, seed):
    optimization = pytest.importorskip("transformers.optimization")
    metrics, optimizer = losses(seed), sgd()
    low, high = limits
    theirs = optimization.GreedyLR(optimizer, **settings, min_lr=low * BASE_LR, max_lr=high * BASE_LR, eps=0.0)
    expected = followed(theirs, optimizer, metrics)
    ours = {
        name: value for name, value in settings.items() if name not in ("smooth", "window_size", "reset_start")
    }
    ours |= {"smoothing": settings.get("window_size", 1), "reset_after": settings.get("reset_start", 500)}
    found = scales(Greedy(**ours, min_scale=low, max_scale=high), RUN, loss=metrics)
    np.testing.assert_allclose(BASE_LR * np.array(found), expected, rtol=1e-9)
    assert len(set(expected)) > 2
    if "reset_start" in settings:
        jumps = np.array(expected[1:]) / np.array(expected[:-1])
        assert (jumps > 1.01 / settings["factor"]).any(), "it never began anew"


def multiplier(values, term, weight):
    """VolSched's, slow and obvious: of the last losses, the newest at the end."""
    returns = np.diff(np.log(values[-10 * term :]))
    if len(values) < term + 1 or np.std(returns[-term:]) == 0.0:
        return 1.0
    departure = np.std(returns, ddof=1) / np.std(returns[-term:], ddof=1) - 1.0
    return 1.0 + math.copysign(math.log1p(weight * abs(departure)), departure)


@pytest.mark.parametrize(("term", "weight"), [(2, 1.0), (3, 0.1), (5, 1.7)])
@pytest.mark.parametrize("reported", ["loss", "validation_loss"])
def test_volatility_is_that_of_a_slow_reference(term, weight, reported):
    metrics, expected, scale = losses(3, 200), [], 1.0
    for count in range(1, len(metrics) + 1):
        if count % term == 0:
            scale = min(max(scale * multiplier(metrics[:count], term, weight), 1 / 50), 50.0)
        expected.append(scale)
    found = scales(VolSched(term, weight, bound=50.0, schedule=Constant()), RUN, **{reported: metrics})
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    moves = np.diff(expected)
    assert moves.min() < 0.0 < moves.max()


def test_calm_after_a_storm_raises_the_rate_and_a_storm_after_calm_lowers_it():
    wild, calm = [1.0, 3.0, 1.0, 3.0, 1.0, 3.0], [3.01, 3.0, 3.01, 3.0, 3.02, 3.0]
    controller = VolSched(3, 0.5, schedule=Constant())
    assert scales(controller, RUN, loss=wild + calm)[-1] > 1.5
    assert scales(controller, RUN, loss=calm + wild)[-1] < 0.85


def test_what_does_not_move_has_no_volatility():
    assert scales(VolSched(2, 1.0, schedule=Constant()), RUN, loss=[2.0] * 12) == [1.0] * 12


def test_volatility_multiplies_cosine_decay():
    metrics = losses(4, 40)
    bare = feed(VolSched(schedule=Constant()), RUN, loss=metrics)
    whole, decay = feed(VolSched(), RUN, loss=metrics), feed(Cosine(), RUN, loss=metrics)
    assert bare[-1].lr_scale[0, 0] != 1.0
    for one, other, cosine in zip(whole, bare, decay, strict=True):
        np.testing.assert_allclose(one.lr_scale, other.lr_scale * cosine.lr_scale)
