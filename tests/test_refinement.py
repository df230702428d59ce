"""Refinement: what is tried along a run, the fit to it, and rounds of both."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from rlsched._check import ArgumentError
from rlsched.action import ActionSpec
from rlsched.agents.imitation.search import draw_group
from rlsched.agents.refinement import OFFSETS, Branches, BranchUnit, Refinement, fit, refine
from rlsched.agents.refinement.branching import choose, rest_of_run, try_out
from rlsched.agents.refinement.fitting import KEPT, interpolate
from rlsched.agents.rollouts import Setting
from rlsched.envs.episodes import Episodes
from rlsched.envs.tasks import FAMILIES, UserFamily
from rlsched.experiments.cli import main as cli
from rlsched.observation import RUN_FEATURES
from rlsched.policy import PolicyInterface
from rlsched.policy.network import forward
from tests.families import TINY
from tests.policies import random_policy
from tests.test_user_tasks import plain
from tests.trainings import weights

SETTING = Setting(TINY, PolicyInterface())
SMALL = Refinement(rounds=2, groups=2, group_tasks=3, points=2, epochs=2, evaluated=1)
STUDENT = {**random_policy(0).tensors, "log_std": np.full(1 + TINY.num_buckets, -2.0)}


@pytest.mark.parametrize(("name", "settling"), [("digits", 0.0), ("digits", 0.3), ("signals", 0.0)])
def test_a_try_at_the_present_learning_rate_ends_as_the_run_itself_if_it_does_nothing_more(name, settling):
    family = FAMILIES[name](min_steps=40, max_steps=60, max_batch=16)
    setting = Setting(family, PolicyInterface(ActionSpec(settling=settling)))
    configs, seeds = draw_group(family, 8, 3)
    # Buckets that follow the run stay as they are in a try, and so are another run's.
    tasks = [family.build(dataclasses.replace(config, bucket_by="difficulty")) for config in configs]
    runs, tries = setting.population(tasks), setting.population([task for task in tasks for _ in OFFSETS])
    runs.reset(seeds)
    tries.reset([0] * len(tasks) * len(OFFSETS))
    episodes = Episodes(runs, tasks, setting.interface)
    nothing = np.zeros((3, 1 + family.num_buckets))
    seen, _ = episodes.begin()
    found = []
    for number in range(1, int(runs.spec.num_decisions[0]) + 1):
        if number in {1, 2, 5, 9}:
            log_scale = seen[:, [feature.name for feature in RUN_FEATURES].index("log_scale")]
            scale = rest_of_run(runs.spec, number, log_scale, setting.interface.action)
            shares = episodes.decide(nothing).bucket_weights
            found.append(try_out(runs, tries, np.arange(3), scale, shares))
        seen, _, _, _ = episodes.step(nothing)
    final = np.log(runs.validation_loss())
    for losses in found:
        np.testing.assert_allclose(losses[:, OFFSETS.index(0.0)], final, rtol=1e-4, atol=1e-5)
        assert np.ptp(losses, axis=1).min() > 1e-3, "other learning rates end elsewhere"


def test_decisions_are_an_early_one_and_others_of_the_first_part():
    run = SETTING.population([TINY.build(config) for config in draw_group(TINY, 2, 1)[0]])
    run.reset([0])
    rng, spec = np.random.default_rng(0), run.spec
    due = int((spec.decision_steps[0] < 0.85 * spec.num_steps[0]).sum())
    drawn = [choose(spec, 3, rng) for _ in range(200)]
    assert all(len(numbers) == 3 for numbers in drawn)
    assert all(sum(number <= 4 for number in numbers) == 1 for numbers in drawn)
    assert set().union(*drawn) == set(range(1, due + 1))


def test_a_unit_is_reproducible_and_its_regret_is_of_the_best():
    unit = BranchUnit(4, 3, 2)
    one, other = unit.run(SETTING, STUDENT), unit.run(SETTING, STUDENT)
    np.testing.assert_array_equal(one.regret, other.regret)
    np.testing.assert_array_equal(one.observations, other.observations)
    assert one.regret.shape == (len(one.observations), len(OFFSETS))
    assert (one.regret.min(axis=1) == 0).all()
    assert one.regret.max() > 0


def test_tasks_that_cannot_be_stacked_are_tried_one_by_one():
    family = UserFamily(plain, misjudged=1.0)
    setting = Setting(family, PolicyInterface(), "eager")
    still = {name: np.zeros_like(random_policy(0).tensors[name]) for name in ("lr_head.weight", "lr_head.bias")}
    student = {**random_policy(0).tensors, **still, "log_std": np.full(1 + family.num_buckets, -2.0)}
    found = BranchUnit(4, 3, 2).run(setting, student)
    assert len(found.regret) == 6
    assert np.ptp(found.regret, axis=1).min() > 0


def test_between_what_was_tried_regret_is_a_line():
    rng = np.random.default_rng(0)
    values, places = rng.random((50, len(OFFSETS))), rng.uniform(-2, 1, 50)
    found = interpolate(torch.as_tensor(values), torch.as_tensor(places).float())
    expected = [np.interp(place, OFFSETS, row) for place, row in zip(places, values, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_fit_moves_to_where_least_is_lost_but_early_and_keeps_the_buckets():
    start, states = random_policy(0), BranchUnit(4, 6, 4).run(SETTING, STUDENT).observations
    regret = np.abs(np.array(OFFSETS) - 0.35)[None].repeat(len(states), axis=0).astype(np.float32)
    found = fit(start, Branches(states, regret), epochs=2000, learning_rate=3e-3, most=1.0, seed=0)
    before, after = (forward(policy.tensors, states) for policy in (start, found))
    early = states[:, [feature.name for feature in RUN_FEATURES].index("progress")] < KEPT
    assert early.any()
    np.testing.assert_allclose(after[~early, 0], 0.5, atol=0.1)
    np.testing.assert_allclose(after[early, 0], before[early, 0], atol=0.1)
    np.testing.assert_allclose(after[:, 1:], before[:, 1:], atol=0.1)
    assert np.abs(before[:, 0] - 0.5).mean() > 0.2


class Stop(Exception):
    pass


def test_a_refinement_that_was_stopped_ends_as_if_it_never_was(tmp_path):
    whole = refine(random_policy(0), SMALL, tmp_path / "whole", tasks=TINY)

    def stop(stage, done, total):
        if stage == "round 2/2" and done:
            raise Stop

    with pytest.raises(Stop):
        refine(random_policy(0), SMALL, tmp_path / "run", tasks=TINY, report=stop)
    with pytest.raises(FileExistsError, match="pass --resume"):
        refine(random_policy(0), SMALL, tmp_path / "run", tasks=TINY)
    other = dataclasses.replace(SMALL, points=1)
    with pytest.raises(ArgumentError, match="other settings of points"):
        refine(random_policy(0), other, tmp_path / "run", tasks=TINY, resume=True)
    with pytest.raises(ArgumentError, match="other settings of start"):
        refine(random_policy(1), SMALL, tmp_path / "run", tasks=TINY, resume=True)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    with pytest.raises(ArgumentError, match="is damaged"):
        refine(random_policy(0), SMALL, tmp_path / "damaged", tasks=TINY, resume=True)
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        refine(random_policy(0), SMALL, tmp_path / "none", tasks=TINY, resume=True)
    asked = []
    resumed = refine(
        random_policy(0), SMALL, tmp_path / "run", tasks=TINY, resume=True,
        report=lambda stage, done, total: asked.append(stage),
    )  # fmt: skip
    assert "round 1/2" not in asked
    assert weights(resumed) == weights(whole)
    assert resumed.metadata.evaluation == whole.metadata.evaluation
    assert whole.metadata.evaluation["score"] <= whole.metadata.evaluation["start"]


def test_workers_refine_to_the_same_policy(tmp_path, ray_cluster):
    from rlsched.agents.rollouts.ray_backend import RayBackend

    alone = refine(random_policy(0), SMALL, tmp_path / "alone", tasks=TINY)
    backend = functools.partial(RayBackend, workers=1)
    found = refine(random_policy(0), SMALL, tmp_path / "ray", tasks=TINY, backend=backend)
    assert weights(found) == weights(alone)


def test_the_command_says_whether_it_helped(tmp_path, capsys):
    start = random_policy(0).save(tmp_path / "start.safetensors")
    flags = "--tasks.family quick --rounds 1 --groups 1 --group-tasks 3 --points 1 --epochs 1 --evaluated 1"
    assert cli(["refine", "--out", str(tmp_path / "run"), "--policy", str(start), *flags.split()]) == 0
    said = capsys.readouterr().out
    assert "Score on the 4 tasks that chose among the rounds" in said
    assert (tmp_path / "run" / "policy.safetensors").exists()
    assert cli(["refine", "--out", str(tmp_path / "run"), "--policy", str(start), *flags.split()]) == 1
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rounds": 0}, "rounds must be an integer >= 1, got 0"),
        ({"group_tasks": 2}, "group_tasks must be an integer >= 3, got 2"),
        ({"exploration": 2.0}, r"exploration must be a finite number in \[0.0, 1.0\], got 2.0"),
        ({"most": 0.0}, "most must be"),
    ],
)
def test_settings_are_checked(change, words):
    with pytest.raises(ArgumentError, match=words):
        dataclasses.replace(SMALL, **change)
