"""What every curriculum must do, whatever its rule. A new one joins by a line in `CURRICULA`."""

import copy
import dataclasses
import functools
import io
from typing import Any

import numpy as np
import pytest
import torch

from rlsched import Buckets, Constant, Cosine, CurriculumSampler, Event, Linear, RLScheduler, RunSpec, Window
from rlsched.contract import TELEMETRY
from rlsched.controllers.closed_loop import Greedy
from rlsched.controllers.curriculum import (
    ADO,
    CDAS,
    DUMP,
    GAIN,
    ODM,
    PCL,
    PUDF,
    SEC,
    SPDCL,
    ActorCriticMixing,
    BalancedFiltering,
    CurES,
    CyclicalCurriculum,
    DeferredReweighting,
    FixedCurriculum,
    MasteringRate,
    ModerateDecay,
    NoiseLevelCurriculum,
    Pacing,
    ReplayForgotten,
    SubsetPretraining,
    curricula,
)  # fmt: skip
from rlsched.envs.drive import trace
from rlsched.envs.population import Population
from rlsched.envs.tasks import Digits, DigitsConfig
from rlsched.tensors import to_arrays, to_tensors
from tests.loops import start

CURRICULA = {
    "pacing": Pacing(),
    "pacing, hard first": Pacing(order="hard first", pace="root", least=0.05),
    "pacing, interleaved": Pacing(order="interleaved", segments=3),
    "pacing, as a warm-up": Pacing(pace="quadratic", until=0.2),
    "cyclical": CyclicalCurriculum(),
    "mastering rate": MasteringRate(),
    "mastering rate, failure": MasteringRate(reading="failure", memory=2),
    "deferred reweighting": DeferredReweighting(after=0.5, num_examples=300),
    "subset pretraining": SubsetPretraining(until=0.4),
    "spdcl": SPDCL(),
    "sec": SEC(),
    "sec, progress": SEC(gain="progress"),
    "dump": DUMP(),
    "odm": ODM(),
    "odm, perplexity": ODM(estimate="perplexity"),
    "ado": ADO(),
    "ado, at once": ADO(warmup=0.0, history=5, mix=1.0),
    "actor-critic mixing": ActorCriticMixing(history=3, rate=1.0, discount=0.9, seed=5),
    "balanced filtering": BalancedFiltering(),
    "balanced filtering, failure": BalancedFiltering(low=0.4, high=0.6, reading="failure"),
    "pcl": PCL(),
    "pcl, failure": PCL(threshold=0.7, pool=4.0, memory=1.0, reading="failure"),
    "cdas": CDAS(),
    "cures": CurES(),
    "cures, failure": CurES(temperature=0.3, rollouts=False, answers=8.0, memory=1.0, reading="failure"),
    "pudf": PUDF(),
    "pudf, failure": PUDF(reading="failure", growth=0.5),
    "pudf, given": PUDF(difficulty=(-1.0, 0.0, 1.0, 2.0)),
    "gain": GAIN(),
    "gain, given": GAIN(concentration=(0.9, 0.7, 0.6, 0.4)),
    "fixed": FixedCurriculum(Linear(), curricula(4)[-1]),
    "noise levels": NoiseLevelCurriculum(),
    "noise levels, by convergence": NoiseLevelCurriculum(patience=1, threshold=0.0, until=1.0),
    "moderate decay": ModerateDecay(),
    "replay forgotten": ReplayForgotten(),
}
"""Instances that can do with any number of ordered buckets; tests are run with each."""

each = pytest.mark.parametrize("curriculum", CURRICULA.values(), ids=CURRICULA.keys())

ROWS = (
    RunSpec.single(
        60, 12, 0.1, adaptive=False, batch_size=8, bucket_shares=[1, 2, 3, 4], bucket_difficulty=[0, 0.2, 0.6, 1]
    ),
    RunSpec.single(
        37, 12, [0.1, 0.2], adaptive=True, bucket_shares=[4, 1, 1, 4], bucket_difficulty=[0, 0.3, 0.7, 1]
    ),
    RunSpec.single(
        200, 5, 0.01, adaptive=True, batch_size=64, bucket_shares=[1, 1, 1, 1], bucket_difficulty=[0, 0.3, 0.7, 1]
    ),
)
MEASURED = ("loss", "loss_slope", "loss_noise", "grad_norm", "grad_spread", "update_ratio", "grad_agreement")


def windows(run, seed, missing=0.2, diverged=0.1):
    """Windows of one run from its opening to past its end, with gaps and infinite losses."""
    rng = np.random.default_rng(seed)
    found = [Window.opening(run)]
    for index in range(1, run.decision_steps.shape[1] + 2):
        at = np.full(run.num_runs, index)
        values = {name: rng.uniform(0.05, 2.0, run.num_runs) for name in MEASURED}
        values["validation_loss"] = rng.uniform(0.5, 3.0, run.num_runs)
        values["bucket_loss"] = rng.uniform(0.01, 3.0, run.bucket_shares.shape) * np.exp(-0.2 * index)
        for name, value in values.items():
            value[rng.random(value.shape) < missing] = np.nan
            if name.endswith("loss"):
                value[rng.random(value.shape) < diverged] = np.inf
        found.append(found[0].replace(decision=at, step=run.boundary(at), **values))
    return found


def stacked(spec, rows):
    """The windows of some runs as one; a run that is over stays at its end."""
    longest = max(map(len, rows))
    rows = [row + [row[-1]] * (longest - len(row)) for row in rows]
    names = ["step", "decision", "bucket_loss", "validation_loss", *MEASURED]
    return [
        Window.opening(spec).replace(**{name: np.concatenate([getattr(w, name) for w in at]) for name in names})
        for at in zip(*rows, strict=True)
    ]


def arrays(state):
    """The arrays of a nested state by their path."""
    if not isinstance(state, dict):
        return {"": state}
    return {f"{name}/{path}": leaf for name, part in state.items() for path, leaf in arrays(part).items()}


def weights_of(curriculum, run, seen, state=None):
    """The weights after each of some windows, and the state in the end; read-only arrays go in."""
    state = curriculum.init(run) if state is None else state
    found = []
    for window in seen:
        for value in [*arrays(state).values(), window.bucket_loss, window.loss, window.spec.bucket_shares]:
            value.flags.writeable = False
        state, decision = curriculum.decide(state, window)
        decision.check(window)
        assert np.isfinite(decision.bucket_weights).all()
        np.testing.assert_allclose(decision.bucket_weights.sum(axis=1), 1.0, rtol=0, atol=1e-12)
        found.append(decision.bucket_weights)
    return np.stack(found), state


@each
def test_runs_that_are_decided_together_are_decided_as_each_alone(curriculum):
    rows = [windows(run, seed) for seed, run in enumerate(ROWS)]
    together, _ = weights_of(curriculum, RunSpec.stack(ROWS), stacked(RunSpec.stack(ROWS), rows))
    for row, (run, seen) in enumerate(zip(ROWS, rows, strict=True)):
        alone, _ = weights_of(curriculum, run, seen)
        np.testing.assert_allclose(together[: len(seen), row], alone[:, 0], rtol=1e-12, atol=1e-15)


@each
@pytest.mark.parametrize("saved", ["copied", "saved"])
def test_a_state_goes_on_from_a_copy_and_from_a_file_as_if_nothing_had_happened(curriculum, saved):
    spec = RunSpec.stack(ROWS)
    seen = stacked(spec, [windows(run, 7 + seed) for seed, run in enumerate(ROWS)])
    whole, _ = weights_of(curriculum, spec, seen)
    _, state = weights_of(curriculum, spec, seen[:5])
    if saved == "copied":
        state = copy.deepcopy(state)
    else:
        file = io.BytesIO()
        torch.save(to_tensors(state), file)
        state = to_arrays(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    rest, _ = weights_of(curriculum, spec, seen[5:], state)
    np.testing.assert_array_equal(rest, whole[5:])


@each
def test_a_state_keeps_its_names_and_shapes_has_a_row_for_each_run_and_is_not_written_to(curriculum):
    spec = RunSpec.stack(ROWS)
    seen = stacked(spec, [windows(run, 3) for run in ROWS])
    state = curriculum.init(spec)
    shapes = {path: (leaf.shape, leaf.dtype) for path, leaf in arrays(state).items()}
    assert all(shape[0] == spec.num_runs and dtype.kind in "fiub" for shape, dtype in shapes.values())
    for window in seen:
        before = copy.deepcopy(state)
        _, after = weights_of(curriculum, spec, [window], state)
        for path, leaf in arrays(before).items():
            np.testing.assert_array_equal(arrays(state)[path], leaf)
        assert {path: (leaf.shape, leaf.dtype) for path, leaf in arrays(after).items()} == shapes
        state = after


@each
@pytest.mark.parametrize(("missing", "diverged"), [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_runs_without_any_loss_and_runs_that_diverged_have_weights(curriculum, missing, diverged):
    weights_of(curriculum, ROWS[2], windows(ROWS[2], 0, missing, diverged))


@each
def test_extreme_losses_have_weights(curriculum):
    for levels in ([0.0, 0.0, 0.0, 0.0], [1e-30, 1e30, 1.0, 0.0], [1e12, 1e12, 1e12, 1e12]):
        seen = [window.replace(bucket_loss=np.array([levels])) for window in windows(ROWS[2], 0, 0.0, 0.0)]
        weights_of(curriculum, ROWS[2], seen)


@each
def test_a_single_bucket_has_all_the_weight(curriculum):
    run = RunSpec.single(50, 5, 0.1, adaptive=False)
    found, _ = weights_of(curriculum, run, windows(run, 0))
    np.testing.assert_allclose(found, 1.0)


@each
@pytest.mark.parametrize("inner", [Cosine(), Greedy(smoothing=2)], ids=["cosine", "greedy"])
def test_learning_rates_are_those_of_the_wrapped_controller(curriculum, inner):
    wrapped = dataclasses.replace(curriculum, controller=inner)
    assert inner.reads <= wrapped.reads <= TELEMETRY
    assert wrapped.reads == inner.reads | dataclasses.replace(curriculum, controller=Constant()).reads
    run, states = ROWS[0], [inner.init(ROWS[0]), wrapped.init(ROWS[0])]
    for window in windows(run, 5):
        states[0], alone = inner.decide(states[0], window)
        states[1], decision = wrapped.decide(states[1], window)
        np.testing.assert_array_equal(decision.lr_scale, alone.lr_scale)


@each
def test_a_controller_that_is_none_is_refused(curriculum):
    with pytest.raises(TypeError, match="controller must be a Controller"):
        dataclasses.replace(curriculum, controller=Cosine)


class Run:
    """Regression by a linear model under a real scheduler and sampler; buckets are quantiles of difficulty."""

    def __init__(self, curriculum, state=None):
        rng = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(64, 3, generator=rng)
        self.targets = self.inputs @ torch.tensor([1.0, -2.0, 0.5]) + torch.arange(64) / 32
        self.model = torch.nn.Linear(3, 1)
        torch.nn.init.zeros_(self.model.weight)
        torch.nn.init.zeros_(self.model.bias)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.scheduler = RLScheduler(self.optimizer, 16, controller=curriculum, num_decisions=8)
        self.sampler = CurriculumSampler(Buckets.from_scores(np.arange(64), 4), 8, self.scheduler, seed=3)
        for name, part in (state or {}).items():
            getattr(self, name).load_state_dict(part)

    def state(self):
        names = ("model", "optimizer", "scheduler", "sampler")
        return {name: copy.deepcopy(getattr(self, name).state_dict()) for name in names}

    def train(self, steps):
        """The weights of the buckets at each step, and the parameters in the end."""
        weights = []
        for _ in range(steps):
            batch = torch.from_numpy(self.sampler.draw())
            weights.append(self.sampler.weights.copy())
            losses = (self.model(self.inputs[batch])[:, 0] - self.targets[batch]) ** 2
            self.optimizer.zero_grad()
            losses.mean().backward()
            self.optimizer.step()
            self.scheduler.step(losses)
        return np.array(weights), self.model.weight.detach().numpy().copy()


@each
def test_a_real_run_that_is_resumed_ends_to_the_bit_as_one_that_was_not(curriculum):
    weights, parameters = Run(curriculum).train(16)
    first = Run(curriculum)
    first.train(7)
    file = io.BytesIO()
    torch.save(first.state(), file)
    rest, resumed = Run(curriculum, torch.load(io.BytesIO(file.getvalue()), weights_only=True)).train(9)
    np.testing.assert_array_equal(rest, weights[7:])
    np.testing.assert_array_equal(resumed, parameters)
    assert np.isfinite(parameters).all()


@functools.cache
def digits():
    """Small tasks with all kinds of buckets that have an order."""
    kinds: list[dict[str, Any]] = [
        {"bucket_by": "difficulty"},
        {"bucket_by": "difficulty", "probed": True},
        {"bucket_by": "online"},
    ]
    return [
        Digits().build(
            DigitsConfig(
                data_seed=seed, num_steps=24, num_decisions=8, batch_size=8, optimizer="sgd", base_lr=0.1,
                num_examples=60, width=8, **kind,
            )
        )
        for seed, kind in enumerate(kinds)
    ]  # fmt: skip


@each
def test_a_population_trains_under_it(curriculum):
    population = Population(digits())
    population.reset([0, 1, 2])
    found = trace(population, curriculum, np.zeros(3, dtype=bool))
    assert np.isfinite(found.final).all()
    np.testing.assert_allclose(found.bucket_weights.sum(axis=2), 1.0)


def test_buckets_that_were_refused_may_be_replaced():
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 30, controller=Pacing())
    with pytest.raises(ValueError, match="goes by the difficulty of buckets"):
        CurriculumSampler(Buckets.from_groups([0, 1] * 20), 8, scheduler)
    CurriculumSampler(Buckets.from_scores(np.arange(40.0)), 8, scheduler)
    assert len(scheduler.bucket_weights) == 4


def test_a_curriculum_without_a_sampler_is_pointed_out_once():
    _, optimizer = start()
    seen: list[Event] = []
    scheduler = RLScheduler(optimizer, 30, controller=SEC(), on_event=seen.append)
    for _ in range(30):
        optimizer.step()
        scheduler.step(1.0)
    [event] = seen
    assert event.kind == "curriculum"
    assert "SEC has nothing to weigh" in event.message
