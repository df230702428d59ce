"""Decision times, windows, decisions and open-loop schedules."""

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from rlsched import Constant, Cosine, Decision, Linear, RunSpec, Window
from rlsched.controllers.schedules import OpenLoop
from rlsched.decision_times import decision_steps, num_short_windows


def spec(**changes) -> RunSpec:
    settings = {"num_steps": 100, "num_decisions": 10, "base_lr": 0.1, "adaptive": True}
    return RunSpec.single(**(settings | changes))


@pytest.mark.parametrize("num_steps", [2, 3, 10, 60, 100, 1000, 50_000, 10**6])
@pytest.mark.parametrize("num_decisions", [1, 2, 3, 4, 5, 9, 10, 20, 30, 100])
def test_decisions_start_dense_and_become_even(num_steps, num_decisions):
    if num_decisions >= num_steps:
        return
    steps = decision_steps(num_steps, num_decisions)
    widths = np.diff(np.concatenate([[0], steps, [num_steps]]))
    assert steps.shape == (num_decisions,)
    assert steps[0] == 1
    assert steps[-1] < num_steps
    assert widths.sum() == num_steps
    assert (widths >= 1).all()
    assert (np.diff(widths) >= -1).all(), "they never shrink, but for rounding"
    short = num_short_windows(np.array(num_decisions))
    assert np.ptp(widths[short:]) <= 1, "from there on they are even"


def test_windows_double_where_that_is_enough():
    assert decision_steps(60, 30)[:6].tolist() == [1, 2, 4, 6, 8, 10]
    assert np.diff(decision_steps(2000, 100))[:5].tolist() == [1, 2, 4, 8, 16]


def test_windows_tile_the_run():
    run = spec()
    step, lengths = 0, []
    for decision in range(11):
        window = Window.opening(run).replace(step=np.array([step]), decision=np.array([decision]))
        lengths.append(int(window.steps_ahead[0]))
        assert window.progress_ahead()[0, 0] == step / 100
        step += lengths[-1]
    assert step == 100


def test_runs_of_different_lengths_share_one_window():
    one, other = spec(), spec(num_steps=40, num_decisions=5)
    padded = np.concatenate([other.decision_steps, np.full((1, 5), 40)], axis=1)
    both = RunSpec(
        num_steps=np.array([100, 40]),
        decision_steps=np.concatenate([one.decision_steps, padded]),
        base_lr=np.full((2, 1), 0.1),
        adaptive=np.array([True, True]),
        batch_size=np.array([np.nan, np.nan]),
        epochs=np.array([np.nan, np.nan]),
        bucket_shares=np.ones((2, 1)),
        bucket_difficulty=np.full((2, 1), 0.5),
        curriculum=np.array([False, False]),
    )
    assert both.num_decisions.tolist() == [10, 5]
    # Six decisions in, the shorter run is over and the longer one is not.
    step = both.boundary(np.array([6, 6]))
    window = Window.opening(both).replace(step=step, decision=np.array([6, 6]))
    assert window.steps_ahead[1] == 0
    assert window.steps_ahead[0] > 0
    assert Linear().decide({}, window)[1].lr_scale[1].max() == 0.0


@pytest.mark.parametrize(
    ("controller", "reference"),
    [
        (Linear(), lambda o, steps: LinearLR(o, 1.0, 0.0, total_iters=steps)),
        (Cosine(), lambda o, steps: CosineAnnealingLR(o, T_max=steps)),
    ],
)
def test_schedules_follow_torch_at_every_step(controller: OpenLoop, reference):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = reference(optimizer, 100)
    run, step = spec(), 0
    for decision in range(11):
        window = Window.opening(run).replace(step=np.array([step]), decision=np.array([decision]))
        _, chosen = controller.decide({}, window)
        for offset in range(int(window.steps_ahead[0])):
            assert 0.1 * chosen.lr_scale[0, offset] == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
            optimizer.step()
            scheduler.step()
            step += 1
    assert step == 100


def test_constant_keeps_the_base_learning_rate_and_the_natural_mixture():
    run = spec(bucket_shares=[3.0, 1.0])
    _, decision = Constant().decide({}, Window.opening(run))
    assert (decision.lr_scale == 1.0).all()
    np.testing.assert_allclose(decision.bucket_weights, [[0.75, 0.25]])


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"num_steps": 1}, ValueError, "num_steps must be an integer >= 2, got 1"),
        ({"num_steps": 10.5}, TypeError, "num_steps must be an integer, got 10.5"),
        ({"num_steps": True}, TypeError, "num_steps must be an integer"),
        ({"num_decisions": 100}, ValueError, r"num_decisions must be an integer in \[1, 99\], got 100"),
        ({"base_lr": -1.0}, ValueError, "base_lr must be >= 0, got -1.0"),
        ({"base_lr": float("nan")}, ValueError, "base_lr must be finite everywhere, got nan at index 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, got 0"),
        ({"bucket_shares": [0.5, 0.0]}, ValueError, "leave empty buckets out"),
        ({"bucket_shares": []}, ValueError, "bucket_shares must be a non-empty"),
        ({"bucket_difficulty": [2.0]}, ValueError, "bucket_difficulty must be 1 ranks"),
        ({"base_lr": "fast"}, TypeError, "base_lr must be a non-empty one-dimensional array of numbers, got list"),
    ],
)
def test_a_bad_spec_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        spec(**changes)


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (Decision(np.ones((1, 2)), np.ones((1, 1))), "lr_scale must have shape"),
        (Decision(np.full((1, 99), np.nan), np.ones((1, 1))), "lr_scale must be finite"),
        (Decision(np.full((1, 99), -1.0), np.ones((1, 1))), "lr_scale must be finite and >= 0"),
        (Decision(np.ones((1, 99)), np.ones((1, 2)) / 2), "bucket_weights must have shape"),
        (Decision(np.ones((1, 99)), np.full((1, 1), 0.9)), "sum to 1"),
        (Decision(np.ones((1, 99)), np.full((1, 1), np.nan)), "sum to 1"),
    ],
)
def test_a_bad_decision_is_refused(decision, words):
    window = Window.opening(spec(num_decisions=1)).replace(step=np.array([1]), decision=np.array([1]))
    with pytest.raises(ValueError, match=words):
        decision.check(window)
