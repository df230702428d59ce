"""What a policy is compared with."""

import copy
import dataclasses
from importlib.metadata import version

import numpy as np
import pytest
import torch

from rlsched import WSD, Linear, RunSpec, Window
from rlsched._check import ArgumentError
from rlsched.agents.open_loop import Plan, run_plans
from rlsched.agents.rollouts import NO_WEIGHTS, Setting
from rlsched.controllers import FixedCurriculum, curricula
from rlsched.envs.tasks import Digits
from rlsched.experiments.evaluation import comparators
from rlsched.experiments.evaluation.comparators import Controlled, fixed_curricula, policies, schedules
from rlsched.experiments.evaluation.job import MethodJob
from rlsched.experiments.evaluation.libraries import METHODS, Library, LibraryRun, Method, library_methods
from rlsched.policy import PolicyInterface
from tests.families import TINY, Gentle
from tests.policies import random_policy

SETTING = Setting(Gentle(), PolicyInterface())


def configs(count=3, **changes):
    rng = np.random.default_rng(0)
    first = dataclasses.replace(Gentle().sample(rng), **changes)
    return tuple(Gentle().sample_like(rng, first) for _ in range(count))


def built(*given, **changes):
    return [Gentle().build(dataclasses.replace(config, **changes)) for config in given or configs()]


# Fixed curricula.


def test_a_fixed_curriculum_is_what_a_search_ran():
    choice = curricula(4)[3]
    tasks = built(curriculum=True)
    _, final = run_plans(
        SETTING, tasks, [1, 2, 3], [[Plan(Linear(), task.config.base_lr, choice)] for task in tasks]
    )
    ran = Controlled("x", FixedCurriculum(Linear(), choice)).train(SETTING, NO_WEIGHTS, tasks, [1, 2, 3], True)
    first = SETTING.population(tasks)
    first.reset([1, 2, 3])
    np.testing.assert_allclose([each.validation for each in ran], np.log(final[:, 0] / first.validation_loss()))


def test_a_fixed_curriculum_refuses_other_numbers_of_buckets():
    run = RunSpec.single(100, 10, 0.1, adaptive=True, bucket_shares=[0.5, 0.5])
    with pytest.raises(ValueError, match="one entry for each of the run's 2 buckets, has 4"):
        FixedCurriculum(Linear(), curricula(4)[1]).init(run)
    controller = FixedCurriculum(Linear(), curricula(2)[1])
    _, decision = controller.decide(controller.init(run), Window.opening(run))
    decision.check(Window.opening(run))


# What all are told.


def test_all_comparators_have_names_of_their_own_and_tune_over_seven_rates_or_none():
    found = [*schedules(), *fixed_curricula(4), *policies(4), *library_methods()]
    assert len({each.name for each in found}) == len(found)
    assert {len(each.factors) for each in found} == {1, 7}
    assert all(len(each.factors) == 1 for each in found if each.kind == "policy")
    assert sum(len(each.factors) for each in schedules()) == 42
    assert {each.curriculum for each in found if each.kind in ("schedule", "library")} == {False}
    assert len(policies(1)) == 3, "without buckets there is no curriculum"


def test_validation_losses_reach_the_policy_and_test_losses_do_not():
    (task, *_), policy = built(feedback=True), random_policy(1, gain=3.0)
    learned = policies(4)[1]

    def lrs(changed):
        return learned.train(SETTING, policy.tensors, [changed], [3], True)[0].lr

    other = tuple(values[:5] for values in task.test)
    np.testing.assert_array_equal(lrs(task), lrs(dataclasses.replace(task, test=other)))
    validation = tuple(values[:5] for values in task.validation)
    assert (lrs(task) != lrs(dataclasses.replace(task, validation=validation))).any()


def test_kept_runs_are_found_by_what_a_comparator_is():
    class Nameless:
        reads = frozenset[str]()
        init = decide = None

    assert Controlled("x", Linear()).content == Controlled("x", Linear()).content
    assert Controlled("x", Linear()).content != Controlled("x", WSD()).content
    assert Controlled("x", WSD(0.1)).content != Controlled("x", WSD(0.2)).content
    assert all(" at 0x" not in each.content for each in [*schedules(), *fixed_curricula(4), *policies(4)])
    assert version("schedulefree") in Library("Schedule-Free").content
    with pytest.raises(ArgumentError, match="'x' must be told apart by its repr"):
        _ = Controlled("x", Nameless()).content  # type: ignore[arg-type]


def test_optimizers_of_libraries_take_over_groups_and_decay():
    x, y = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    groups = [{"params": x.parameters(), "lr": 0.1}, {"params": y.parameters(), "weight_decay": 0.0}]
    for own in (
        torch.optim.AdamW(groups, lr=0.2, weight_decay=0.3),
        torch.optim.RMSprop(groups, lr=0.2, weight_decay=0.3),
    ):
        found = METHODS["Schedule-Free"].optimizer(own)
        assert [group["lr"] for group in found.param_groups] == [0.1, 0.2]
        assert [group["weight_decay"] for group in found.param_groups] == [0.3, 0.0]
    decays = {}
    for kind in (torch.optim.AdamW, torch.optim.Adam):
        plain = kind(x.parameters(), lr=0.1, weight_decay=0.3)
        decays[kind] = METHODS["DoG"].optimizer(plain).param_groups[0]["weight_decay"]
        assert METHODS["Prodigy, cosine"].optimizer(plain).param_groups[0]["decouple"] == (
            kind is torch.optim.AdamW
        )
    assert decays == {torch.optim.AdamW: 0.0, torch.optim.Adam: 0.3}
    sgd = torch.optim.SGD(x.parameters(), lr=0.1, momentum=0.9)
    assert METHODS["Schedule-Free"].optimizer(sgd).param_groups[0]["lr"] == pytest.approx(1.0)


# Jobs.


class Told(comparators.Comparator):
    """Says what it was given; the best factor is 0.1 for the first task, 10 for others."""

    name, kind, curriculum = "told", "schedule", False
    factors: tuple[float, ...] = (0.1, 1.0, 10.0)

    def __init__(self):
        self.calls = []

    def train(self, setting, weights, tasks, seeds, whole):
        self.calls.append((tasks, seeds, whole))
        sensible = np.array([setting.tasks.sensible_lr(task.config) for task in tasks])
        factors = np.array([task.config.base_lr for task in tasks]) / sensible
        first = np.array([task.config.data_seed for task in tasks]) == self.calls[0][0][0].config.data_seed
        losses = np.where(first, factors, 1.0 / factors)
        empty = np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, 0))
        # The test loss speaks for the opposite: it must not be heard.
        return [comparators.Ran(float(loss), -float(loss), *empty) for loss in losses]


def test_a_job_tunes_on_one_seed_and_reports_on_others():
    told = Told()
    runs = MethodJob(configs(), told, 7, 2).run(SETTING, NO_WEIGHTS)
    (tuned, tuning, whole), (_, reporting, reported) = told.calls
    assert (whole, reported) == (False, True)
    assert len(tuned) == 9
    assert len(runs) == 9 + 6
    assert [run.factor for run in runs if run.role == "report"] == pytest.approx([0.1, 0.1, 10, 10, 10, 10])
    assert len(set(reporting)) == 6
    assert not set(tuning) & set(reporting)
    assert tuning[0] == tuning[1] == tuning[2]
    again = Told()
    MethodJob(configs(), again, 7, 3).run(SETTING, NO_WEIGHTS)
    assert again.calls[1][1][::3] == reporting[::2], "more reports leave the others as they are"


def test_all_comparators_start_from_the_same_model():
    found = {}
    for comparator in (schedules()[0], policies(4)[0], Library("linear, averaged")):
        (run,) = [r for r in MethodJob(configs(1), comparator, 7, 1).run(SETTING, random_policy(0).tensors)
                  if r.role == "report"]  # fmt: skip
        found[comparator.name] = run
    assert found["linear"].steps == found["linear, averaged"].steps
    assert len({len(run.curve) for run in found.values()}) == 1
    assert found["linear"].lr[0] == pytest.approx(
        Gentle().sensible_lr(configs(1)[0]) * found["linear"].factor, rel=1e-4
    )


def test_a_run_that_fails_counts_as_the_worst_there_is():
    tasks = [task.with_base_lr(1e38) for task in built(optimizer="sgd")]
    for whole in (True, False):
        for comparator in (schedules()[5], Library("constant, averaged")):
            for ran in comparator.train(SETTING, NO_WEIGHTS, tasks, [1, 2, 3], whole):
                assert (ran.validation, ran.test) == (5.0, 5.0)


# Other libraries.


def test_an_optimizer_in_a_library_run_goes_as_in_a_stack():
    tasks = built(optimizer="adam")
    stacked = schedules()[0].train(SETTING, NO_WEIGHTS, tasks, [1, 2, 3], True)
    METHODS["as it is"] = Method(controller=Linear())
    try:
        eager = Library("as it is").train(SETTING, NO_WEIGHTS, tasks, [1, 2, 3], True)
    finally:
        del METHODS["as it is"]
    for one, other in zip(stacked, eager, strict=True):
        np.testing.assert_allclose(one.curve, other.curve, atol=1e-4)
        assert one.test == pytest.approx(other.test, abs=1e-4)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_method_trains_and_leaves_the_model_as_it_judged_it(name, optimizer):
    task = TINY.build(dataclasses.replace(TINY.sample(np.random.default_rng(3)), optimizer=optimizer, drift=0.0))
    run = LibraryRun(task.with_base_lr(TINY.sensible_lr(task.config)), METHODS[name])
    run.reset(0)
    before = run.test_loss()
    run.advance(10, np.ones(10), task.buckets.shares)
    trained = copy.deepcopy(run.model.state_dict())
    assert run.test_loss() == run.test_loss() != before
    for key, values in run.model.state_dict().items():
        np.testing.assert_allclose(values, trained[key], rtol=1e-5, atol=1e-6)


def test_an_averaged_run_is_judged_at_the_mean_of_its_last_weights():
    config = dataclasses.replace(TINY.sample(np.random.default_rng(3)), num_steps=20, drift=0.0)
    task = TINY.build(config)
    run = LibraryRun(task, METHODS["constant, averaged"])
    run.reset(0)
    seen = []
    for _ in range(20):
        run.advance(1, np.ones(1), task.buckets.shares)
        seen.append([parameter.detach().clone() for parameter in run.model.parameters()])
    with run._extra.shown():
        for at, parameter in enumerate(run.model.parameters()):
            mean = torch.stack([each[at] for each in seen[-4:]]).mean(dim=0)
            torch.testing.assert_close(parameter.detach(), mean)


def test_greedylr_sets_the_learning_rate_within_its_bounds():
    task = Digits().build(dataclasses.replace(Digits().sample(np.random.default_rng(3)), num_steps=400))
    run = LibraryRun(task.with_base_lr(0.01), METHODS["GreedyLR"])
    run.reset(0)
    rates = set()
    for _ in range(20):
        run.advance(10, np.ones(10), task.buckets.shares)
        rates.add(run.optimizer.param_groups[0]["lr"])
    assert len(rates) > 1
    assert all(1e-4 <= rate <= 0.1 for rate in rates)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(METHODS, "x", Method("no_such_module (no-such-package)"))
    with pytest.raises(ArgumentError, match=r"no_such_module.*--no-other-libraries"):
        library_methods()
