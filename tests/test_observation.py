"""Features: ranges, invariances, memory."""

import numpy as np
import pytest

from rlsched import RunSpec, Window, observation
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES

NAMES = [feature.name for feature in RUN_FEATURES]


def spec(buckets: int = 3, **changes) -> RunSpec:
    settings = {"bucket_shares": np.ones(buckets), "bucket_difficulty": np.linspace(0, 1, buckets)}
    return RunSpec.single(100, 10, 0.1, adaptive=True, batch_size=64, **(settings | changes))


def window(run: RunSpec, decision: int, **measured) -> Window:
    index = np.array([decision])
    fields = {name: np.atleast_1d(value).astype(float) for name, value in measured.items()}
    if "bucket_loss" in fields:
        fields["bucket_loss"] = fields["bucket_loss"].reshape(1, -1)
    return Window.opening(run).replace(decision=index, step=run.boundary(index), **fields)


def observe_all(windows, log_scale=0.3, weights=None):
    run = windows[0].spec
    state, seen = observation.init(run), []
    natural = run.bucket_shares if weights is None else np.asarray(weights)[None]
    for each in windows:
        state, one = observation.observe(state, each, np.array([log_scale]), np.array([0.5]), natural)
        seen.append(one[0])
    return np.array(seen)


def feature(seen, name):
    return seen[..., NAMES.index(name)]


def sequence(run, scale=1.0, grad_scale=1.0):
    losses = [2.0, 1.5, 1.6, 0.8]
    spread = np.linspace(0.5, 1.5, run.num_buckets)
    return [
        window(
            run,
            j + 1,
            loss=scale * loss,
            loss_slope=-0.1,
            loss_noise=0.2,
            grad_norm=grad_scale * (3 - j / 2),
            grad_spread=0.3,
            update_ratio=1e-3,
            grad_agreement=0.25,
            bucket_loss=scale * loss * spread,
            validation_loss=scale * 1.1 * loss,
        )
        for j, loss in enumerate(losses)
    ]


def test_features_have_the_values_their_table_says():
    seen = observe_all(sequence(spec()))
    assert feature(seen, "loss_vs_first")[2] == pytest.approx(np.log(1.6 / 2.0), rel=1e-5)
    assert feature(seen, "loss_vs_best")[2] == pytest.approx(np.log(1.6 / 1.5), rel=1e-5)
    assert feature(seen, "loss_change")[3] == pytest.approx(np.log(0.8 / 1.6), rel=1e-5)
    assert feature(seen, "loss_change_fast")[1] == pytest.approx(0.5 * np.log(1.5 / 2.0), rel=1e-5)
    assert feature(seen, "grad_vs_first")[2] == pytest.approx(np.log(2 / 3), rel=1e-5)
    assert feature(seen, "matrix_update")[0] == pytest.approx(-3.0, rel=1e-5)
    assert feature(seen, "batch_size")[0] == 1.0
    assert feature(seen, "epochs").tolist() == [0, 0, 0, 0]
    assert feature(observe_all(sequence(spec(epochs=8))), "epochs").tolist() == [1, 1, 1, 1]
    assert feature(seen, "decisions_left")[0] == pytest.approx(np.log10(10), rel=1e-5)
    assert feature(seen, "feedback").tolist() == [1, 1, 1, 1]
    assert feature(seen, "gap")[1:] == pytest.approx(0.0, abs=1e-6)
    assert feature(seen, "curriculum").tolist() == [1, 1, 1, 1]
    buckets = seen[:, len(NAMES) :].reshape(4, 3, -1)
    np.testing.assert_allclose(buckets[0, :, 0], np.log([0.5, 1.0, 1.5]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(buckets[3, :, 1], np.log(0.5), rtol=1e-5)
    np.testing.assert_allclose(buckets[0, :, 4], [-1, 0, 1])


def test_units_of_loss_and_gradient_do_not_matter():
    one, other = observe_all(sequence(spec())), observe_all(sequence(spec(), scale=1e3, grad_scale=1e-4))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_permuting_the_buckets_permutes_their_features():
    order = [2, 0, 1]
    run = spec()
    permuted = spec(bucket_difficulty=np.linspace(0, 1, 3)[order])
    moved = [each.replace(spec=permuted, bucket_loss=each.bucket_loss[:, order]) for each in sequence(run)]
    one, other = observe_all(sequence(run)), observe_all(moved)
    np.testing.assert_allclose(one[:, : len(NAMES)], other[:, : len(NAMES)], atol=1e-6)
    shape = (4, 3, len(BUCKET_FEATURES))
    np.testing.assert_allclose(
        one[:, len(NAMES) :].reshape(shape)[:, order], other[:, len(NAMES) :].reshape(shape), atol=1e-6
    )


def test_a_run_that_cannot_be_steered_looks_like_one_without_buckets():
    unsteered = observe_all(sequence(spec(curriculum=False)))
    without = observe_all([w.replace(bucket_loss=w.loss[:, None]) for w in sequence(spec(buckets=1))])
    np.testing.assert_array_equal(unsteered[:, : len(NAMES)], without[:, : len(NAMES)])
    assert (unsteered[:, len(NAMES) :] == 0).all()
    assert (without[:, len(NAMES) :] == 0).all()


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e300, np.inf, np.nan, -1.0])
def test_observations_stay_finite_and_in_range(value):
    run = spec()
    windows = sequence(run)
    names = ("loss", "grad_norm", "update_ratio", "validation_loss", "grad_agreement", "loss_noise")
    broken = windows[2].replace(**{name: np.array([value]) for name in names})
    seen = observe_all([*windows[:2], broken.replace(bucket_loss=np.full((1, 3), value)), windows[3]])
    low, high = observation.bounds(3)
    assert np.isfinite(seen).all()
    assert (seen >= low).all()
    assert (seen <= high).all()


def test_a_window_without_measurements_leaves_the_memory_as_it_is():
    windows = sequence(spec())
    gap = Window.opening(windows[0].spec).replace(decision=np.array([3]), step=windows[2].step)
    state = observation.init(windows[0].spec)
    fixed = (np.zeros(1), np.zeros(1), windows[0].spec.bucket_shares)
    state, _ = observation.observe(state, windows[0], *fixed)
    after, _ = observation.observe(state, gap, *fixed)
    assert state["agreement_slow"] != 0
    assert set(after) == set(state)
    for name in state:
        np.testing.assert_array_equal(after[name], state[name])


def test_rows_do_not_influence_each_other():
    run = spec()
    alone = observe_all(sequence(run))
    stack = {f: np.repeat(getattr(run, f), 2, axis=0) for f in run.__dataclass_fields__}
    two = RunSpec(**stack)
    state = observation.init(two)
    for j, each in enumerate(sequence(run)):
        measured = {
            name: np.concatenate([getattr(each, name), 7.0 * getattr(each, name)])
            for name in ("loss", "bucket_loss", "grad_norm", "validation_loss")
        }
        rest = {
            name: np.repeat(getattr(each, name), 2)
            for name in ("step", "decision", "loss_slope", "loss_noise", "grad_spread", "update_ratio",
                         "grad_agreement")
        }  # fmt: skip
        both = Window.opening(two).replace(**measured, **rest)
        state, seen = observation.observe(
            state, both, np.full(2, 0.3), np.full(2, 0.5), np.repeat(run.bucket_shares, 2, axis=0)
        )
        np.testing.assert_array_equal(seen[0], alone[j])
