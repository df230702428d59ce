"""Open-loop schedules: what holds for all of them, and what they refuse."""

import numpy as np
import pytest

from rlsched import RLScheduler, RunSpec, Window
from rlsched._check import ArgumentError
from rlsched.controllers import schedules
from rlsched.controllers.schedules import (
    REX,
    UBA,
    WSD,
    Between,
    Constant,
    Cosine,
    Cyclical,
    InfiniteLR,
    InverseSqrt,
    Linear,
    MultiplicativeCycles,
    OneCycle,
    OpenLoop,
    Polynomial,
    Rewarm,
    Sampled,
    SlowStartFastDecay,
    StepDecay,
    Tabulated,
    TokenSchedule,
    Warmup,
)
from tests.loops import start, train

ALL: list[OpenLoop] = [
    REX(),
    *(UBA(phi) for phi in (1e-6, 1.0, 2.0, 5.0, 1e6)),
    *(WSD(0.3, shape) for shape in ("linear", "1-sqrt", "cosine", "square", "lowered-linear")),
    WSD(1.0),
    Between(Cosine(), 0.2, 0.9),
    Constant(),
    Cosine(),
    Cosine(0.1),
    *(Cyclical(3, mode=mode, rise=0.3) for mode in ("triangular", "triangular2", "exp_range")),
    Cyclical(2, rise=0.0),
    Cyclical(2, rise=1.0),
    *(InfiniteLR(shape=shape) for shape in ("cosine", "inverse-sqrt", "linear")),
    InfiniteLR(0.0, 0.0, 0.0),
    InfiniteLR(0.2, 0.3, 0.5),
    InverseSqrt(),
    InverseSqrt(1.0),
    Linear(),
    MultiplicativeCycles(5, 2.0, REX()),
    MultiplicativeCycles(7, 1.0),
    *(
        OneCycle(0.3, anneal=anneal, three_phase=three)
        for anneal in ("cosine", "linear")
        for three in (True, False)
    ),
    OneCycle(0.0, start=1 / 3, final=0.0),
    OneCycle(1.0),
    Polynomial(0.5),
    Polynomial(3.0, 0.2),
    Rewarm(Cosine(0.1), (0.3, 0.7), 0.1, peak=0.5, start=0.1),
    Rewarm(Linear(), (0.5,), share=0.0),
    Sampled(REX(), 7),
    SlowStartFastDecay(),
    StepDecay(),
    StepDecay.every(1 / 3, 0.0),
    Tabulated([0.5, 1.0, 0.2]),
    TokenSchedule(Cosine(), Between(Linear(), 0.1, 1.0)),
    Warmup(Linear(), 0.07),
    Warmup(WSD(0.3, "1-sqrt"), 0.1, start=0.2, rest=True),
    Warmup(Cosine(), 1.0, rest=True),
]
EVERY = pytest.mark.parametrize("schedule", ALL, ids=repr)


def test_the_list_above_leaves_no_schedule_out():
    found = {getattr(schedules, name) for name in schedules.__all__} - {OpenLoop}
    assert {type(schedule) for schedule in ALL} == {each for each in found if issubclass(each, OpenLoop)}


@EVERY
def test_every_schedule_is_finite_and_not_negative_from_the_first_step_to_the_last(schedule):
    for num_steps in (2, 7, 100, 997, 4096):
        profile = schedule.profile(np.arange(num_steps + 1) / num_steps)
        assert profile.shape == (num_steps + 1,)
        assert np.isfinite(profile).all()
        assert (profile >= 0.0).all()
        assert profile.max() <= 1.0
    assert schedule.profile(np.array(0.3)).shape == ()
    assert schedule.profile(np.zeros((2, 0))).shape == (2, 0)


@EVERY
def test_every_step_of_a_scheduled_run_has_the_profile_at_its_progress(schedule):
    model, optimizer = start()
    base, num_steps = optimizer.param_groups[0]["lr"], 57
    rates = train(model, optimizer, RLScheduler(optimizer, num_steps, controller=schedule), num_steps)
    expected = base * schedule.profile(np.arange(num_steps) / num_steps)
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


@EVERY
def test_runs_of_different_lengths_are_scheduled_as_if_alone(schedule):
    alone = [RunSpec.single(steps, decisions, 0.1, adaptive=True) for steps, decisions in ((100, 10), (31, 5))]
    both = RunSpec.stack(alone)
    for index in range(13):
        at = np.array([index, index])
        window = Window.opening(both).replace(step=both.boundary(at), decision=at)
        _, decision = schedule.decide(schedule.init(both), window)
        decision.check(window)
        for row, run in enumerate(alone):
            single = Window.opening(run).replace(step=run.boundary(at[:1]), decision=at[:1])
            width = int(single.steps_ahead[0])
            _, expected = schedule.decide({}, single)
            np.testing.assert_array_equal(decision.lr_scale[row, :width], expected.lr_scale[0, :width])


@EVERY
def test_a_schedule_is_told_apart_by_its_repr_and_made_again_from_it(schedule):
    assert eval(repr(schedule), vars(schedules)) == schedule


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Cosine(1.5), ArgumentError, r"final must be a finite number in \[0.0, 1.0\], got 1.5"),
        (lambda: StepDecay((0.5, 0.5)), ArgumentError, r"milestones must increase, each in \(0, 1\)"),
        (lambda: StepDecay((30, 60)), ArgumentError, "give shares of the run"),
        (lambda: StepDecay(()), ArgumentError, r"milestones must be .* such as \(0.5, 0.75\)"),
        (lambda: StepDecay.every(1.0), ArgumentError, "interval must be"),
        (lambda: Polynomial(0.0), ArgumentError, "power must be"),
        (lambda: InverseSqrt(0.0), ArgumentError, "warmup must be"),
        (lambda: OneCycle(0.6, three_phase=True), ArgumentError, r"rise must be .*0.5\].*the fall is as long"),
        (lambda: OneCycle(anneal="cos"), ArgumentError, "anneal must be one of cosine, linear, got 'cos'"),
        (
            lambda: WSD(0.2, "sqrt"),
            ArgumentError,
            "shape must be one of 1-sqrt, cosine, linear, lowered-linear, sq",
        ),
        (lambda: Sampled(REX(), 0), ArgumentError, "num_samples must be an integer >= 1, got 0"),
        (lambda: Sampled(REX, 5), TypeError, "schedule must be an open-loop schedule, got the class REX: give"),  # type: ignore[arg-type]
        (lambda: Between(0.3, 0.3, 0.1), TypeError, "schedule must be an open-loop schedule, got float: give"),  # type: ignore[arg-type]
        (lambda: Between(Linear(), -1.0, 1.0), ArgumentError, "start must be a finite number >= 0"),
        (lambda: Between(Linear(), 1.0, 0.0).at(-1, 10), ArgumentError, "step must be an integer >= 0"),
        (lambda: UBA(0.0), ArgumentError, "phi must be"),
        (
            lambda: InfiniteLR(0.4, 0.4, 0.4),
            ArgumentError,
            "warmup . cooldown . anneal must be .* shares of one run",
        ),
        (lambda: InfiniteLR(final=0.0), ArgumentError, "final must be .* does not reach zero"),
        (lambda: Rewarm(Linear(), ()), ArgumentError, "begins must be .* use Warmup"),
        (lambda: Rewarm(Linear(), (0.7, 0.3)), ArgumentError, "begins must increase.* begins at 0"),
        (lambda: Cyclical(1.5), TypeError, "num_cycles must be an integer"),  # type: ignore[arg-type]
        (lambda: Cyclical(mode="exp"), ArgumentError, "mode must be one of exp_range, triangular, triangular2"),
        (lambda: MultiplicativeCycles(30, 3.0), ArgumentError, "factor must leave .*lower it, or num_cycles"),
        (lambda: SlowStartFastDecay(final=0.0), ArgumentError, "final must be .* does not reach zero"),
        (lambda: TokenSchedule(Linear(), Between(Linear(), 0.0, 0.0)), ArgumentError, "tokens must be positive"),
        (lambda: Warmup(None), TypeError, "schedule must be an open-loop schedule, got NoneType"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(make, error, message):
    with pytest.raises(error, match=message):
        make()
