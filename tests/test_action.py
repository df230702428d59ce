"""From actions to learning rates and bucket weights, against the formulas worked out by hand."""

import numpy as np
import pytest

from rlsched import RunSpec, Window
from rlsched.action import ActionSpec
from rlsched.policy import PolicyInterface

RUN = RunSpec.single(100, 10, 0.1, adaptive=True, bucket_shares=[0.5, 0.3, 0.2])
STEER = np.array([True])


def at(decision: int) -> Window:
    index = np.array([decision])
    return Window.opening(RUN).replace(decision=index, step=RUN.boundary(index))


def decode(action, decision=5, spec=None, state=None, steer=STEER):
    spec = spec or ActionSpec()
    return spec.decode(state or spec.init(RUN), at(decision), np.array([action]), steer)


def test_zero_action_is_linear_decay_after_the_warmup():
    for decision in range(3, 11):
        _, decided = decode([0.0, 0, 0, 0], decision)
        np.testing.assert_allclose(decided.lr_scale, 1.0 - at(decision).progress_ahead(), rtol=1e-12)
        np.testing.assert_allclose(decided.bucket_weights, RUN.bucket_shares, rtol=1e-12)


def test_the_warmup_rises_by_one_move_a_decision():
    scales = [decode([0.0, 0, 0, 0], decision)[1].lr_scale[0, 0] for decision in range(4)]
    undecayed = np.array(scales) / (1.0 - np.array([0, 1, 2, 4]) / 100)
    np.testing.assert_allclose(np.log10(undecayed), [-2.1, -1.4, -0.7, 0.0], atol=1e-12)


def test_a_run_that_settles_rises_by_a_line_to_its_learning_rate():
    spec = ActionSpec(settling=0.2)
    for decision in range(11):
        _, plain = decode([0.5, 0, 0, 0], decision)
        _, settling = decode([0.5, 0, 0, 0], decision, spec)
        progress = at(decision).progress_ahead()
        share = np.where(progress < 0.2, 0.3 + 0.7 * progress / 0.2, 1.0)
        np.testing.assert_allclose(settling.lr_scale, share * plain.lr_scale, rtol=1e-12)
        assert settling.bucket_weights.tolist() == plain.bucket_weights.tolist()


def test_a_policy_sees_updates_as_if_none_were_held_back():
    plain, settling = (PolicyInterface(ActionSpec(settling=share)) for share in (0.0, 0.2))
    state = plain.init(RUN)
    # Decisions at 8 % and 72 % of the run.
    for decision, share in ((4, 0.3 + 0.7 * 0.08 / 0.2), (9, 1.0)):
        window = at(decision).replace(update_ratio=np.array([1e-2]), loss=np.array([1.0]))
        _, expected = plain.observe(state, window)
        # A learning rate of that share makes updates of that length.
        shorter = window.replace(update_ratio=share * window.update_ratio)
        np.testing.assert_allclose(settling.observe(state, shorter)[1], expected, rtol=1e-6)


@pytest.mark.parametrize(("num_decisions", "steps"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 19)])
def test_the_warmup_ends_early_in_runs_of_few_decisions(num_decisions, steps):
    run = RunSpec.single(1000, num_decisions, 0.1, adaptive=True)
    for decision in range(num_decisions + 1):
        index = np.array([decision])
        window = Window.opening(run).replace(decision=index, step=run.boundary(index))
        _, decided = ActionSpec().decode(ActionSpec().init(run), window, np.zeros((1, 2)), STEER)
        linear = 1.0 - window.progress_ahead()
        if window.step[0] >= steps:
            np.testing.assert_allclose(decided.lr_scale, linear, rtol=1e-12)
        else:
            assert (decided.lr_scale <= 0.2 * linear).all()


def test_moves_add_up_and_are_clipped():
    spec, window = ActionSpec(max_log_scale=1.0), at(5)
    state = spec.init(RUN)
    for move, expected in ((1.0, 0.7), (9.0, 1.0), (-0.5, 0.65)):
        state, decided = spec.decode(state, window, np.array([[move, 0, 0, 0]]), STEER)
        assert state["log_scale"][0] == pytest.approx(expected)
        assert state["last_move"][0] == np.clip(move, -1, 1)
        assert decided.lr_scale[0, 0] == pytest.approx(10**expected * (1 - window.progress[0]))


def test_bucket_weights_are_a_floored_softmax_about_the_shares():
    _, decided = decode([0.0, 1.0, 0.0, -1.0])
    shares = np.array([0.5, 0.3, 0.2])
    raw = shares * np.exp([4.0, 0.0, -4.0])
    np.testing.assert_allclose(decided.bucket_weights[0], 0.98 * raw / raw.sum() + 0.02 * shares, rtol=1e-12)


def test_no_bucket_starves():
    _, decided = decode([0.0, 1.0, -1.0, -1.0])
    assert (decided.bucket_weights[0] >= 0.02 * np.array([0.5, 0.3, 0.2])).all()
    assert decided.bucket_weights.sum() == pytest.approx(1.0, abs=1e-12)


def test_a_run_that_cannot_be_steered_keeps_its_mixture():
    _, decided = decode([0.0, 1.0, -1.0, 1.0], steer=np.array([False]))
    np.testing.assert_array_equal(decided.bucket_weights, RUN.bucket_shares)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"max_move": 0.0}, ValueError, "max_move must be a finite number in"),
        ({"max_move": "big"}, TypeError, "max_move must be a number, got 'big'"),
        ({"bucket_floor": 2.0}, ValueError, "bucket_floor must be a finite number in"),
        ({"settling": 0.6}, ValueError, r"settling must be a finite number in \[0.0, 0.5\]"),
        ({"warmup_decisions": 2.5}, TypeError, "warmup_decisions must be an integer"),
        ({"max_logit": float("nan")}, ValueError, "max_logit must be a finite number"),
    ],
)
def test_bad_settings_are_refused(fields, error, words):
    with pytest.raises(error, match=words):
        ActionSpec(**fields)
