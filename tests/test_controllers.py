"""The policy controller and the guard."""

import numpy as np
import pytest

from rlsched import Constant, Guard, Linear, Policy, PolicyController, RunSpec, Window
from rlsched.controllers.learned import _FIXED, CEILING
from rlsched.observation import RUN_FEATURES
from tests.policies import random_policy

RUN = RunSpec.single(100, 10, 1e-3, adaptive=True, bucket_shares=[0.5, 0.5])


def windows(losses, run=RUN):
    """One window a decision, the first without telemetry."""
    for decision, loss in enumerate([np.nan, *losses]):
        index = np.array([decision])
        yield Window.opening(run).replace(
            decision=index,
            step=run.boundary(index),
            loss=np.array([loss]),
            bucket_loss=loss * np.linspace(0.5, 1.5, run.num_buckets)[None],
            nonfinite=np.array([int(loss == np.inf)]),
        )


def run_through(controller, losses, run=RUN):
    state, decisions = controller.init(run), []
    for window in windows(losses, run):
        state, decision = controller.decide(state, window)
        decision.check(window)
        decisions.append((window, decision))
    return decisions


def raising_policy():
    """A policy that always raises the learning rate as far as it can."""
    policy = random_policy(0, gain=0.0)
    return Policy({**policy.tensors, "lr_head.bias": np.ones(1, np.float32)}, policy.metadata)


@pytest.mark.parametrize(
    ("base", "adaptive", "highest"),
    [
        (1e-3, True, CEILING),
        ([1e-5, 1e-3], True, CEILING),
        ([2e-1, 1e-3], True, 2e-1),  # somebody's choice
        (1e-3, False, np.inf),
    ],
)
def test_a_policy_raises_no_learning_rate_of_adam_above_the_ceiling(base, adaptive, highest):
    run = RunSpec.single(100, 10, base, adaptive=adaptive)
    decisions = run_through(PolicyController(raising_policy()), [2.0] * 10, run)
    rates = np.concatenate([d.lr_scale[0, : w.steps_ahead[0]] for w, d in decisions[:-1]]) * np.max(base)
    if adaptive:
        assert rates.max() == pytest.approx(highest)
    else:
        assert rates.max() > 5.0 * CEILING


def test_a_policy_that_was_held_at_the_ceiling_comes_down_from_there():
    """What it wanted beyond does not add up."""
    run = RunSpec.single(100, 10, 1e-3, adaptive=True)
    up, down = (PolicyController(Policy({**raising_policy().tensors, "lr_head.bias": np.full(1, bias, np.float32)},
                raising_policy().metadata)) for bias in (1.0, -1.0))  # fmt: skip
    state = up.init(run)
    *seen, last = list(windows([2.0] * 6, run))
    for window in seen:
        state, held = up.decide(state, window)
    _, lowered = down.decide(state, last)
    spec = up.policy.metadata.action
    before, after = (d.lr_scale[0, 0] / (1.0 - w.progress[0]) for w, d in ((seen[-1], held), (last, lowered)))
    assert after == pytest.approx(before * 10.0**-spec.max_move)


def test_without_losses_a_policy_is_linear_decay_after_the_warmup():
    decisions = run_through(PolicyController(random_policy(1)), [np.nan] * 10)
    for window, decision in decisions[3:]:
        np.testing.assert_allclose(decision.lr_scale, 1.0 - window.progress_ahead(), rtol=1e-12)
    for _, decision in decisions:
        np.testing.assert_array_equal(decision.bucket_weights, RUN.bucket_shares)


def test_a_policy_answers_to_the_losses():
    falling = run_through(PolicyController(random_policy(1)), list(np.linspace(2, 1, 10)))
    rising = run_through(PolicyController(random_policy(1)), list(np.linspace(2, 9, 10)))
    assert falling[-1][1].lr_scale[0, 0] != rising[-1][1].lr_scale[0, 0]
    assert (falling[-1][1].bucket_weights != RUN.bucket_shares).any()


@pytest.mark.parametrize("loss", [-1.0, np.inf])
def test_a_loss_the_features_are_not_defined_for_holds_the_policy(loss):
    decisions = run_through(PolicyController(random_policy(1)), [2.0, 2.0, 2.0, loss, loss])
    relative = [d.lr_scale[0, 0] / (1 - w.progress[0]) for w, d in decisions]
    assert relative[4] == pytest.approx(relative[3] if loss < 0 else relative[4])
    assert relative[5] == pytest.approx(relative[4])


def narrow_policy(seed):
    """A policy that saw little: the loss never rose."""
    policy = random_policy(seed)
    tensors = dict(policy.tensors)
    index = [feature.name for feature in RUN_FEATURES].index("loss_vs_best")
    for name, value in (("mean", 0.0), ("std", 0.05)):
        tensors[f"normalizer.run_{name}"] = tensors[f"normalizer.run_{name}"].copy()
        tensors[f"normalizer.run_{name}"][index] = value
    return Policy(tensors, policy.metadata)


def test_outside_of_what_it_knows_a_policy_does_not_speed_up():
    moves: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(20):
        controller = PolicyController(narrow_policy(seed))
        state = controller.init(RUN)
        for window in windows([2.0, 2.0, 2.1, 5.0, 2.1, 2.1]):
            before = state["action"]["log_scale"]
            state, decision = controller.decide(state, window)
            far = bool(window.loss[0] == 5.0)
            moves[far].append((state["action"]["log_scale"] - before)[0])
            assert [kind for kind, _ in decision.notes] == ["out_of_range"] * far
            if far:
                assert (
                    "loss_vs_best (ln(loss / lowest window loss so far)) is 0.916, 18 stand"
                    in decision.notes[0][1]
                )
                np.testing.assert_array_equal(decision.bucket_weights, RUN.bucket_shares)
    assert max(moves[True]) == 0.0 > min(moves[True]), "some policies slow down, none speeds up"
    assert max(moves[False]) > 0.0


def test_the_guard_backs_off_compounds_and_recovers():
    decisions = run_through(Guard(Constant()), [1.0, np.inf, np.inf, 1.0, 1.0, 1.0])
    assert [d.lr_scale[0, 0] for _, d in decisions] == pytest.approx([1, 1, 0.1, 0.01, 0.1, 1, 1])


def test_a_rate_that_failed_is_approached_slowly():
    decisions = run_through(Guard(Constant(), backoff=0.9), [1.0, np.inf, 1.0, 1.0, 1.0])
    assert [d.lr_scale[0, 0] for _, d in decisions] == pytest.approx([1, 1, 0.5, 1, 1, 1])
    decisions = run_through(Guard(Constant(), backoff=0.9), [1.0, np.inf, np.inf, np.inf, 1.0, 1.0, 1.0])
    assert [d.lr_scale[0, 0] for _, d in decisions] == pytest.approx([1, 1, 0.5, 0.25, 0.125, 0.25, 0.5, 1])


def test_the_guard_bounds_the_learning_rate():
    decisions = run_through(Guard(Linear(), min_lr_scale=0.25, max_lr_scale=0.5), [1.0] * 10)
    for window, decision in decisions:
        expected = np.clip(1.0 - window.progress_ahead(), 0.25, 0.5)
        np.testing.assert_allclose(decision.lr_scale, expected)
    with pytest.raises(ValueError, match="max_lr_scale must be a finite number in"):
        Guard(Linear(), min_lr_scale=2.0, max_lr_scale=1.0)


def test_an_alarm_counts_as_a_failure():
    guard = Guard(Constant())
    state = guard.init(RUN)
    *_, last = windows([1.0])
    _, decision = guard.decide(state, last.replace(alarm=np.array([True])))
    assert decision.lr_scale[0, 0] == pytest.approx(0.1)


def test_the_guard_continues_the_last_schedule_from_where_it_is():
    guard = Guard(Linear())
    state, _ = guard.decide(guard.init(RUN), next(iter(windows([]))))
    index = np.array([8])
    window = Window.opening(RUN).replace(decision=index, step=RUN.boundary(index))
    state, planned = guard.decide(state, window)
    hit = window.replace(step=window.step + 3, nonfinite=np.array([1]), loss=np.array([np.inf]))
    _, held = guard.decide(state, hit)
    left = int(hit.steps_ahead[0])
    np.testing.assert_allclose(held.lr_scale[0, :left], 0.1 * planned.lr_scale[0, 3 : 3 + left])


def test_what_the_guard_hides_does_not_reach_the_policy():
    policy = PolicyController(random_policy(1))
    clean = run_through(Guard(policy), [2.0, 1.9, 1.8, 1.7])
    assert all(
        np.array_equal(one.lr_scale, other.lr_scale)
        for (_, one), (_, other) in zip(clean, run_through(policy, [2.0, 1.9, 1.8, 1.7]), strict=True)
    )
    guard = Guard(policy)
    state = guard.init(RUN)
    *seen, last = windows([2.0, 1.9, 1.8])
    for window in seen:
        state, _ = guard.decide(state, window)
    before = state["controller"]
    after, _ = guard.decide(state, last.replace(nonfinite=np.array([1]), loss=np.array([np.inf])))
    for part in ("observation", "action"):
        for name, value in after["controller"][part].items():
            np.testing.assert_array_equal(value, before[part][name])


def test_guards_nest():
    decisions = run_through(Guard(Guard(Constant(), backoff=0.5)), [1.0, np.inf, 1.0, np.inf, 1.0, 1.0])
    assert [d.lr_scale[0, 0] for _, d in decisions] == pytest.approx([1, 1, 0.1, 1, 0.1, 1, 1])


def test_the_guard_keeps_apart_the_runs_that_share_it():
    both = RunSpec(**{name: np.repeat(getattr(RUN, name), 2, axis=0) for name in RUN.__dataclass_fields__})
    alone = run_through(Guard(Guard(Linear())), [1.0, np.inf, 1.0, 1.0])
    guard = Guard(Guard(Linear()))
    state = guard.init(both)
    for (window, expected), healthy in zip(alone, windows([1.0] * 4), strict=True):
        names = ("step", "decision", "loss", "nonfinite", "bucket_loss")
        rows = {n: np.concatenate([getattr(window, n), getattr(healthy, n)]) for n in names}
        state, decided = guard.decide(state, Window.opening(both).replace(**rows))
        np.testing.assert_allclose(decided.lr_scale[0], expected.lr_scale[0])
        np.testing.assert_allclose(decided.lr_scale[1], 1.0 - window.progress_ahead()[0])


def test_backing_off_has_a_limit():
    decisions = run_through(Guard(Constant()), [1.0] + [np.inf] * 8)
    assert decisions[-1][1].lr_scale[0, 0] == pytest.approx(1e-3)


@pytest.mark.parametrize("wrong", ["cosine", Linear, None])
def test_what_is_no_controller_is_refused(wrong):
    with pytest.raises(TypeError, match="controller must be a Controller, with init, decide and reads, got"):
        Guard(wrong)
    with pytest.raises(TypeError, match=r"policy must be an rlsched.Policy, got .*Policy\.load"):
        PolicyController(wrong)


def test_a_bad_backoff_is_refused():
    with pytest.raises(ValueError, match="backoff must be a finite number in"):
        Guard(Linear(), backoff=1.5)


def test_a_failure_at_a_learning_rate_of_zero_limits_nothing():
    class Late(Linear):
        def profile(self, progress):
            return np.where(progress < 0.01, 0.0, 1.0)

    decisions = run_through(Guard(Late()), [np.inf, 1.0, 1.0, 1.0])
    assert decisions[-1][1].lr_scale[0, 0] == 1.0


def test_notes_of_decisions_that_the_guard_discards_are_discarded():
    guard = Guard(PolicyController(narrow_policy(0)))
    state = guard.init(RUN)
    *seen, far = windows([2.0, 2.0, 9.0])
    for window in seen:
        state, _ = guard.decide(state, window)
    assert guard.decide(state, far)[1].notes
    assert not guard.decide(state, far.replace(alarm=np.array([True])))[1].notes


def test_what_is_not_measured_is_named_as_the_features_are():
    assert {feature.name for feature in RUN_FEATURES} > _FIXED
