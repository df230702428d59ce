"""Open-loop schedules: values worked out by hand, and the papers' limits."""

import math

import numpy as np
import pytest

from rlsched.controllers.schedules import (
    REX,
    UBA,
    WSD,
    Between,
    Constant,
    Cosine,
    InfiniteLR,
    Linear,
    MultiplicativeCycles,
    Rewarm,
    Sampled,
    SlowStartFastDecay,
    StepDecay,
    TokenSchedule,
    Warmup,
)


def values(schedule, *progress):
    return schedule.profile(np.array(progress)).tolist()


def test_wsd_cools_down_by_the_shape_it_was_given():
    for shape, expected in {
        "linear": [1.0, 0.75, 0.5, 0.0],
        "1-sqrt": [1.0, 0.5, 1 - math.sqrt(0.5), 0.0],
        "cosine": [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.0],
        "square": [1.0, 1 - 1 / 16, 0.75, 0.0],
        "lowered-linear": [0.7, 0.525, 0.35, 0.0],
    }.items():
        assert values(WSD(0.5, shape), 0.5, 0.625, 0.75, 1.0) == pytest.approx(expected)
        assert values(WSD(0.5, shape), 0.0, 0.49) == [1.0, 1.0]


def test_a_cooldown_over_the_whole_run_is_the_plain_decay():
    progress = np.linspace(0, 1, 50)
    np.testing.assert_allclose(WSD(1.0).profile(progress), Linear().profile(progress), atol=1e-15)
    np.testing.assert_allclose(WSD(1.0, "cosine").profile(progress), Cosine().profile(progress), atol=1e-15)


def test_beta2_is_raised_in_the_cooldown_by_a_scalar_schedule():
    beta2 = Between(StepDecay((0.8,), factor=0.0), 0.95, 0.99)
    assert [beta2.at(step, 10) for step in (0, 7, 8, 9, 99)] == pytest.approx([0.95, 0.95, 0.99, 0.99, 0.99])


def test_uba_runs_from_constant_through_cosine_to_an_early_fall():
    progress = np.linspace(0, 1, 101)
    np.testing.assert_allclose(UBA(2.0).profile(progress), Cosine().profile(progress), atol=1e-15)
    np.testing.assert_allclose(UBA(1e-6).profile(progress[:-5]), 1.0, atol=1e-3)
    assert values(UBA(1.0), 0.5) == pytest.approx([2 / 3])
    assert values(UBA(6.0), 0.0, 0.5, 1.0) == pytest.approx([1.0, 0.25, 0.0])
    curves = np.array([UBA(phi).profile(progress[1:-1]) for phi in (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)])
    assert (np.diff(curves, axis=0) < 0).all(), "lower for larger phi, everywhere"
    assert (np.diff(curves, axis=1) < 0).all(), "each falls"


@pytest.mark.parametrize("num_steps", [10, 29, 100, 1000])
def test_a_profile_sampled_once_a_step_is_the_profile_and_more_rarely_it_is_held(num_steps):
    progress = np.arange(num_steps) / num_steps
    every_step = Sampled(REX(), num_steps).profile(progress)
    np.testing.assert_allclose(every_step, REX().profile(progress), atol=1e-12)
    held = Sampled(REX(), 5).profile(np.arange(50) / 50)
    np.testing.assert_array_equal(held, np.repeat(REX().profile(np.arange(5) / 5), 10))


def test_slow_start_fast_decay_by_epochs_rises_by_fifths_and_then_halves():
    expected = [0.2, 0.4, 0.6, 0.8, 1.0, 2**-1, 2**-2, 2**-3, 2**-4, 2**-5]
    assert values(Sampled(SlowStartFastDecay(), 10), *(np.arange(10) / 10 + 0.05)) == pytest.approx(expected)


def test_the_infinite_schedule_has_four_phases():
    schedule = InfiniteLR(0.1, 0.4, 0.2, constant=0.4, final=0.1)
    expected = [0.0, 0.5, 1.0, 0.7, 0.4, 0.4, 0.2, 0.1]
    assert values(schedule, 0.0, 0.05, 0.1, 0.3, 0.5, 0.8, 0.9, 1.0) == pytest.approx(expected)
    root = InfiniteLR(0.0, 0.4, 0.2, constant=0.4, final=0.1, shape="inverse-sqrt")
    share = 1 - (1 - 1 / math.sqrt(1 + 10 * 0.25)) / (1 - 1 / math.sqrt(11))
    assert values(root, 0.0, 0.1, 0.4) == pytest.approx([1.0, 0.4 + 0.6 * share, 0.4])


def test_a_new_corpus_goes_on_where_the_infinite_schedule_was_constant():
    first, then = InfiniteLR(), InfiniteLR(warmup=0.0, cooldown=0.0)
    assert values(then, 0.0, 0.79) == pytest.approx(values(first, 0.79, 0.79))
    np.testing.assert_allclose(values(then, 0.8, 0.9, 1.0), values(first, 0.8, 0.9, 1.0))


def test_each_corpus_is_warmed_up_from_where_the_last_one_ended():
    schedule = Rewarm(Cosine(0.1), (0.5,), share=0.2, peak=0.6)
    progress = np.linspace(0, 1, 41)
    alone = Warmup(Cosine(0.1), 0.2, rest=True).profile(progress[:-1])
    np.testing.assert_allclose(schedule.profile(progress[:-1] / 2), alone, atol=1e-12)
    # From 0.1 to 0.6 over a fifth of the second corpus, then down to 0.06.
    assert values(schedule, 0.5, 0.55, 0.6, 0.8, 1.0) == pytest.approx([0.1, 0.35, 0.6, 0.33, 0.06])
    third = Rewarm(Cosine(0.1), (0.25, 0.5), share=0.2, peak=0.6)
    assert values(third, 0.25, 0.5, 0.6, 1.0) == pytest.approx([0.1, 0.06, 0.6, 0.06])
    again = Rewarm(Cosine(0.1), (0.5,), share=0.2, start=0.1)
    assert values(again, 0.0, 0.05, 0.1) == pytest.approx([0.1, 0.55, 1.0]), "a run that goes on"
    jumps = np.abs(np.diff(schedule.profile(np.linspace(0, 1, 2001))))
    assert jumps.max() < 0.01, "it never jumps"


def test_warmups_multiply_or_come_first():
    assert values(Warmup(Linear(), 0.5), 0.25, 0.5, 0.75) == pytest.approx([0.375, 0.5, 0.25])
    assert values(Warmup(Linear(), 0.5, start=0.2, rest=True), 0.0, 0.25, 0.5, 0.75) == pytest.approx(
        [0.2, 0.6, 1.0, 0.5]
    )


def test_multiplicative_cycles_end_low_each_twice_as_long_as_the_last():
    cycles = MultiplicativeCycles(4, 2.0, Linear())
    assert cycles.ends == pytest.approx([1 / 15, 3 / 15, 7 / 15, 1.0])
    before = cycles.profile(np.array(cycles.ends) - 1e-7)
    np.testing.assert_allclose(before, 0.0, atol=1e-5)
    np.testing.assert_array_equal(cycles.profile(np.array(cycles.ends[:-1])), 1.0)


# Scalars and tokens.


def test_a_masking_rate_falls_from_30_to_15_percent():
    masking = Between(Linear(), start=0.30, end=0.15)
    assert [masking.at(step, 100) for step in (0, 20, 50, 100, 500)] == pytest.approx(
        [0.3, 0.27, 0.225, 0.15, 0.15]
    )
    assert values(Between(REX(), 1.0, 0.1), 0.0, 0.5, 1.0) == pytest.approx([1.0, 0.7, 0.1]), "a floor"


def test_a_schedule_over_layer_tokens_counts_them_as_the_steps_consume_them():
    num_steps, layers, dropping, length, kept, ramp = 4000, 24, 22, 2048, 128, 2800
    consumed = np.zeros(num_steps + 1)
    for step in range(num_steps):
        now = min(kept + (length - kept) * step / ramp, length)
        consumed[step + 1] = consumed[step] + dropping * now + (layers - dropping) * length
    least = (dropping * kept + (layers - dropping) * length) / (layers * length)
    tokens = Between(Warmup(Constant(), ramp / num_steps), start=1.0, end=least)
    expected = Cosine().profile(consumed / consumed[-1])
    found = TokenSchedule(Cosine(), tokens).profile(np.arange(num_steps + 1) / num_steps)
    np.testing.assert_allclose(found, expected, atol=3e-4)
    assert np.abs(Cosine().profile(np.arange(num_steps + 1) / num_steps) - expected).max() > 0.1


def test_tokens_that_do_not_change_are_steps():
    progress = np.linspace(0, 1, 333)
    np.testing.assert_allclose(
        TokenSchedule(REX(), Between(Constant(), 9.0, 0.0)).profile(progress), REX().profile(progress), atol=1e-12
    )
