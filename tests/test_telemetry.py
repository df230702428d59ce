"""Statistics of a window, against the obvious computation."""

import numpy as np
import pytest

from rlsched import RunSpec
from rlsched.telemetry import SAMPLED_STEPS, is_sampled, summarise


def window(losses, grad_norms=None, update_ratios=None, agreements=None):
    losses = np.asarray(losses, dtype=float)
    none = np.full_like(losses, np.nan)
    run = RunSpec.single(100, 10, 0.1, adaptive=False)
    runs = len(losses)
    return summarise(
        run,
        np.full(runs, 8),
        np.full(runs, 4),
        losses=losses,
        grad_norms=none if grad_norms is None else np.asarray(grad_norms, dtype=float),
        update_ratios=none if update_ratios is None else np.asarray(update_ratios, dtype=float),
        grad_agreements=none if agreements is None else np.asarray(agreements, dtype=float),
        bucket_loss=np.full((runs, 1), np.nan),
        validation_loss=np.full(runs, np.nan),
    )


def test_the_loss_line_is_numpys_polyfit():
    rng = np.random.default_rng(0)
    losses = 2.0 - 0.05 * np.arange(20) + 0.1 * rng.standard_normal((3, 20))
    seen = window(losses)
    for row, values in enumerate(losses):
        slope, intercept = np.polyfit(np.arange(20), values, 1)
        residual = values - slope * np.arange(20) - intercept
        assert seen.loss[row] == pytest.approx(values.mean())
        assert seen.loss_slope[row] == pytest.approx(slope * 19 / values.mean())
        assert seen.loss_noise[row] == pytest.approx(np.sqrt((residual**2).sum() / 18) / values.mean())


def test_padding_changes_nothing():
    rng = np.random.default_rng(1)
    losses = rng.uniform(1, 2, (1, 6))
    padded = np.concatenate([losses, np.full((1, 9), np.nan)], axis=1)
    one, other = window(losses), window(padded)
    for name in ("loss", "loss_slope", "loss_noise"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12)


def test_what_was_not_measured_is_nan_and_what_diverged_is_inf():
    seen = window([[np.nan, np.nan, np.nan], [1.0, np.inf, 1.0]])
    assert np.isnan(seen.loss[0])
    assert seen.loss[1] == np.inf
    assert seen.nonfinite.tolist() == [0, 1]
    assert np.isnan(seen.grad_norm).all()


def test_gradient_statistics():
    seen = window(
        [[1.0, 1.0, 1.0]],
        grad_norms=[[np.nan, 1.0, np.e**2]],
        update_ratios=[[np.nan, 1e-2, 1e-4]],
        agreements=[[np.nan, np.nan, 0.5]],
    )
    assert seen.grad_norm[0] == pytest.approx(np.e)
    assert seen.grad_spread[0] == pytest.approx(1.0)
    assert seen.update_ratio[0] == pytest.approx(1e-3)
    assert seen.grad_agreement[0] == pytest.approx(0.5)


def test_the_last_steps_of_a_window_are_sampled():
    assert [is_sampled(offset, 7) for offset in range(7)] == [False] * 3 + [True] * SAMPLED_STEPS
    assert is_sampled(0, 1)
    assert not is_sampled(0, 0), "a run that is over"
