"""What closed-loop controllers have in common: the contract, missing telemetry, checkpoints, bad input."""

import copy
import dataclasses
import io
from typing import Any

import numpy as np
import pytest
import torch

import rlsched.controllers.closed_loop as closed_loop
from rlsched import Linear, RLScheduler, RunSpec, Window
from rlsched.controllers.closed_loop import (
    ClosedLoop,
    FedHyperGlobal,
    FedHyperLocal,
    GradientSNR,
    Greedy,
    Hypergradient,
    Plateau,
    PolyakMomentum,
    VolSched,
)
from tests.closed_loops import at, feed
from tests.loops import start, train

CONTROLLERS = [
    Hypergradient(),
    Hypergradient("additive", rate=0.001, bound=30.0),
    FedHyperGlobal(),
    FedHyperLocal(),
    GradientSNR(),
    PolyakMomentum(),
    PolyakMomentum(momentum=0.0, lower_bound=0.5, growth=None),
    Plateau(),
    Plateau(patience=0, cooldown=2, threshold_mode="abs"),
    Greedy(),
    Greedy(patience=1, cooldown=1, warmup=1, smoothing=3, reset_after=1),
    VolSched(),
    VolSched(2, 1.5, schedule=Linear()),
]
every = pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda c: type(c).__name__)

RUNS = [RunSpec.single(steps, count, lr, adaptive=False, bucket_shares=[0.3, 0.7])
        for steps, count, lr in [(200, 20, 0.1), (64, 31, 1e-3), (500, 12, 30.0), (33, 32, 0.0)]]  # fmt: skip
MEASURED = {
    "loss": "loss",
    "loss_slope": "loss",
    "grad_norm": "grad_norm",
    "grad_agreement": "grad_agreement",
    "validation_loss": "validation_loss",
}
"""Field of a window -> the telemetry it is part of."""


def random_windows(spec, count=14, seed=0, troubled=True):
    """The opening, and windows of runs that learn, in which some measurements are missing and some not finite."""
    rng, runs = np.random.default_rng(seed), spec.num_runs
    yield Window.opening(spec)
    for index in range(1, count):
        loss = np.exp(rng.normal(-0.1 * index, 0.3, runs))
        found = {
            "loss": loss,
            "loss_slope": rng.uniform(-3.0, 3.0, runs),
            "grad_norm": np.exp(rng.normal(0.0, 2.0, runs)),
            "grad_agreement": rng.uniform(-1.0, 1.0, runs),
            "validation_loss": np.where(rng.random(runs) < 0.3, 1.1 * loss, np.nan),
        }
        if troubled:
            for values in found.values():
                values[rng.random(runs) < 0.2] = np.nan
            found["loss"][rng.random(runs) < 0.2] = np.inf
        yield at(Window.opening(spec), index).replace(**found)


def row_of(window, row):
    """One run of `window`, alone."""

    def only(values):
        return values[row : row + 1] if isinstance(values, np.ndarray) else values

    spec = dataclasses.replace(
        window.spec, **{f.name: only(getattr(window.spec, f.name)) for f in dataclasses.fields(RunSpec)}
    )
    fields = {f.name: only(getattr(window, f.name)) for f in dataclasses.fields(Window) if f.name != "spec"}
    return Window(spec=spec, **fields)


def test_every_closed_loop_controller_is_held_to_the_contract():
    exported = {getattr(closed_loop, name) for name in closed_loop.__all__}
    adaptive = {kind for kind in exported if issubclass(kind, ClosedLoop)} - {ClosedLoop}
    assert adaptive == {type(controller) for controller in CONTROLLERS}


@every
def test_runs_side_by_side_are_those_that_run_alone(controller):
    spec = RunSpec.stack(RUNS)
    together, alone = controller.init(spec), [controller.init(run) for run in RUNS]
    for window in random_windows(spec):
        together, decision = controller.decide(together, window)
        decision.check(window)
        for row, run in enumerate(RUNS):
            # At the run's own decision times, which the stack has padded.
            single = dataclasses.replace(row_of(window, row), spec=run)
            alone[row], expected = controller.decide(alone[row], single)
            ahead = int(single.steps_ahead[0])
            np.testing.assert_allclose(decision.lr_scale[row, :ahead], expected.lr_scale[0, :ahead], rtol=1e-12)
            for name, values in together.items():
                np.testing.assert_allclose(values[row], alone[row][name][0], rtol=1e-12)


@every
def test_decisions_stay_positive_and_states_of_one_kind(controller):
    spec = RunSpec.stack(RUNS)
    state = controller.init(spec)
    kind = {name: (values.dtype, values.shape) for name, values in state.items()}
    for seed in range(5):
        for window in random_windows(spec, seed=seed):
            state, decision = controller.decide(state, window)
            assert {name: (values.dtype, values.shape) for name, values in state.items()} == kind
            for row, ahead in enumerate(window.steps_ahead):
                rates = decision.lr_scale[row, :ahead]
                assert (rates > 0.0).all()
                assert np.isfinite(rates).all()
            np.testing.assert_array_equal(decision.bucket_weights, spec.bucket_shares)


@every
def test_the_telemetry_that_is_read_is_declared(controller):
    spec = RunSpec.stack(RUNS)
    state = bare = controller.init(spec)
    for window in random_windows(spec, troubled=False):
        hidden = [name for name, telemetry in MEASURED.items() if telemetry not in controller.reads]
        unread = window.replace(**{name: np.full(spec.num_runs, np.nan) for name in hidden})
        state, decision = controller.decide(state, window)
        bare, other = controller.decide(bare, unread)
        np.testing.assert_array_equal(decision.lr_scale, other.lr_scale)


@every
def test_a_window_without_measurements_leaves_the_state_as_it_is(controller):
    spec = RunSpec.stack(RUNS)
    state = controller.init(spec)
    for window in random_windows(spec, troubled=False):
        state, _ = controller.decide(state, window)
    before = copy.deepcopy(state)
    after, _ = controller.decide(state, at(Window.opening(spec), 14))
    assert after.keys() == before.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(state[name], values, err_msg="a state that was passed in was changed")
        np.testing.assert_array_equal(after[name], values)


@every
def test_a_run_that_was_saved_goes_on_as_if_it_had_not_been(controller):
    """Sixty steps of a real model; weights_only=True refuses all but tensors and plain values."""
    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 60, controller=controller, num_decisions=15)
    rates = train(model, optimizer, scheduler, 60)
    assert len(set(rates)) > 1, "the controller has done nothing"

    model, optimizer = start()
    scheduler = RLScheduler(optimizer, 60, controller=controller, num_decisions=15)
    first = train(model, optimizer, scheduler, 31)
    stored = io.BytesIO()
    torch.save([part.state_dict() for part in (model, optimizer, scheduler)], stored)
    stored.seek(0)
    model, optimizer = start(seed=1)
    scheduler = RLScheduler(optimizer, 60, controller=controller, num_decisions=15)
    for part, state in zip((model, optimizer, scheduler), torch.load(stored, weights_only=True), strict=True):
        part.load_state_dict(state)
    assert first + train(model, optimizer, scheduler, 29, first=31) == rates


@pytest.mark.parametrize("controller", [Plateau(factor=0.5, patience=0), Greedy(factor=0.5)], ids=type)
def test_once_a_run_has_validation_losses_its_training_losses_do_not_count(controller):
    """The validation losses rise: each is a bad window. Training losses, far below, come in between."""
    losses = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    validation = [np.nan, 5.0, np.nan, 6.0, np.nan, 7.0]
    found = [
        float(decision.lr_scale[0, 0])
        for decision in feed(controller, RUNS[0], loss=losses, validation_loss=validation)[1:]
    ]
    ratios = (np.array(found[1:]) / found[:-1]).tolist()
    # The first validation loss is a new best one, whatever the training losses were.
    assert ratios == [1.0 if isinstance(controller, Plateau) else 2.0, 1.0, 0.5, 1.0, 0.5]


NO_SCHEDULE: Any = 0.5
IN = "must be a finite number in"
AT_LEAST = "must be an integer >="
BAD = [
    (lambda: Plateau(schedule=NO_SCHEDULE), TypeError, "schedule must be an open-loop schedule, got float: give"),
    (lambda: Plateau(factor=1.0), ValueError, rf"factor {IN} \[1e-06, 0.999\], got 1.0"),
    (lambda: Plateau(patience=-1), ValueError, f"patience {AT_LEAST} 0, got -1"),
    (lambda: Plateau(threshold_mode="percent"), ValueError, "threshold_mode must be one of abs, rel, got"),
    (lambda: Greedy(smoothing=0), ValueError, f"smoothing {AT_LEAST} 1, got 0"),
    (lambda: Greedy(max_scale=0.5), ValueError, rf"max_scale {IN} \[1.0, 1000000.0\], got 0.5"),
    (lambda: VolSched(term=1), ValueError, f"term {AT_LEAST} 2, got 1"),
    (lambda: VolSched(weight=2.0), ValueError, rf"weight {IN} \[0.0, 1.7\], got 2.0"),
    (lambda: Hypergradient("exact"), ValueError, "rule must be one of additive, multiplicative, got 'exact'"),
    (lambda: Hypergradient("additive"), ValueError, r"rate must be given with the additive rule.*try"),
    (lambda: Hypergradient(rate=1.0), ValueError, rf"rate {IN} \[0.0, 0.99\], got 1.0"),
    (lambda: FedHyperGlobal(bound=0.5), ValueError, rf"bound {IN} \[1.0, 1000000.0\], got 0.5"),
    (lambda: GradientSNR(floor=0.0), ValueError, rf"floor {IN} \[1e-06, 1.0\], got 0.0"),
    (lambda: PolyakMomentum(momentum=1.0), ValueError, rf"momentum {IN} \[0.0, 0.999\]"),
    (lambda: PolyakMomentum(growth=0.5), ValueError, rf"growth {IN} \[1.0, 1000.0\], got 0.5"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_polyak_refuses_optimizers_that_do_not_move_along_gradients():
    model, _ = start()
    adam = torch.optim.Adam(model.parameters())
    with pytest.raises(ValueError, match=r"got one like Adam: use SGD"):
        RLScheduler(adam, 60, controller=PolyakMomentum())
