"""Scores beside baselines, and ablations of the recipe."""

import dataclasses
import json

import numpy as np
import pytest

from rlsched.agents import TrainConfig, train
from rlsched.agents.evaluation import FLAWS, Baselines, BaselineUnit, Comparison, Difference, Outcome, Which, kinds
from rlsched.agents.imitation import SearchUnit
from rlsched.agents.presets import QUICK
from rlsched.agents.rollouts import NO_WEIGHTS, InProcess
from rlsched.envs.tasks import Digits, Tabular, TaskConfig
from rlsched.experiments import cli
from rlsched.experiments.ablations.study import Study, markdown, rows
from rlsched.experiments.ablations.variants import VARIANTS, WHOLE
from rlsched.policy import Policy
from tests.families import TINY
from tests.policies import random_policy
from tests.trainings import SMALL


def comparison(scores, tuned, configs, per_group=2) -> Comparison:
    n = len(scores)
    baselines = Baselines(np.zeros((n, 3, 7)), np.array(tuned, dtype=float))
    return Comparison(Outcome(configs, np.array(scores, dtype=float), []), baselines, np.arange(n) // per_group)


def plain(config, **changes):
    """The task without flaws, but for `changes`."""
    clean = {
        "label_noise": 0.0,
        "imbalance": 1.0,
        "duplicates": 0.0,
        "domain_skew": 0.0,
        "drift": 0.0,
        "feedback": False,
    }
    return dataclasses.replace(config, bucket_by="difficulty", **clean | changes)


def noisy(count, label_noise=0.3):
    rng = np.random.default_rng(0)
    return [plain(Digits().sample(rng), label_noise=label_noise) for _ in range(count)]


def over(found: Comparison, scores, which: Which = lambda config: True) -> Difference:
    difference = found.over(np.asarray(scores), which)
    assert difference is not None
    return difference


def test_a_difference_is_the_mean_of_paired_ones():
    found = comparison([-1.0, -2.0, 0.5, 0.0], [-1.0, -1.0, 0.0, 1.0], noisy(4))
    difference = over(found, found.baselines.tuned_linear)
    assert difference.mean == pytest.approx((0 - 1 + 0.5 - 1) / 4)
    assert difference.low <= difference.mean <= difference.high
    assert (difference.worse, difference.worst, difference.tasks) == (0.25, 0.5, 4)


def test_the_interval_is_over_groups_because_their_tasks_are_alike():
    rng = np.random.default_rng(0)
    shared = np.repeat(rng.normal(size=40), 10)  # ten tasks of a group that all say the same
    grouped = comparison(shared, np.zeros(400), noisy(400), per_group=10)
    wrong = comparison(shared, np.zeros(400), noisy(400), per_group=1)
    width, narrow = (each.high - each.low for each in (over(grouped, np.zeros(400)), over(wrong, np.zeros(400))))
    assert width == pytest.approx(2 * 1.96 * shared.std() / np.sqrt(40), rel=0.15)
    assert narrow < 0.5 * width


def test_kinds_tell_flaws_and_families_apart():
    rng = np.random.default_rng(0)
    drifting = plain(Tabular().sample(rng), drift=0.5, feedback=True)
    silent = TaskConfig(data_seed=0, num_steps=50, num_decisions=5, batch_size=8, optimizer="adam", base_lr=0.1)
    configs = [*noisy(2), *noisy(2, 0.0), drifting, silent]
    found = comparison([1.0, 1.0, 2.0, 2.0, 4.0, 9.0], np.zeros(6), configs)
    means = {kind: over(found, np.zeros(6), which).mean for kind, which in kinds(configs).items()}
    assert means == {
        "all": pytest.approx(19 / 6),
        "clean labels": pytest.approx(8 / 3),
        "no flaw": 2.0,
        "noisy labels": 1.0,
        "drift": 4.0,
        "validation losses reported": 4.0,
        "none reported": 3.0,
        "Digits": 1.5,
        "Tabular": 4.0,
        "Task": 9.0,
    }
    assert found.over(np.zeros(6), lambda config: False) is None


@pytest.mark.parametrize(
    ("flaw", "setting"),
    [
        ("noisy labels", {"label_noise": 0.1}),
        ("imbalanced", {"imbalance": 0.2}),
        ("duplicates", {"duplicates": 0.1}),
        ("domains", {"domain_skew": 1.0}),
        ("drift", {"drift": 0.5}),
    ],
)
def test_each_flaw_is_told_by_its_setting(flaw, setting):
    config = plain(Digits().sample(np.random.default_rng(0)), **setting)
    assert [name for name, has in FLAWS.items() if has(config)] == [flaw]


def test_score_says_how_a_policy_does(tmp_path, capsys):
    policy, figures = tmp_path / "policy.safetensors", tmp_path / "figures.json"
    random_policy(0).save(policy)
    command = ["score", str(policy), "--tasks.family", "quick", "--groups", "2", "--group-tasks", "1"]
    assert cli.main([*command, "--json", str(figures)]) == 0
    assert "best single default" in capsys.readouterr().out
    rows = json.loads(figures.read_text())
    assert {row["against"] for row in rows} == {"best single default", "tuned linear decay"}
    assert [row["tasks"] for row in rows if row["kind"] == "all"] == [2, 2]
    assert all(row["low"] <= row["mean"] <= row["high"] for row in rows)
    assert cli.main([*command[:-3], "1"]) == 1
    assert "groups must be an integer >= 2, got 1" in capsys.readouterr().err


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_changes_one_part_of_the_recipe(name):
    base = dataclasses.replace(QUICK, rollouts=dataclasses.replace(QUICK.rollouts, repeats=4))
    changed = VARIANTS[name](base)
    parts = [field.name for field in dataclasses.fields(TrainConfig)]
    assert sum(getattr(changed, part) != getattr(base, part) for part in parts) == (name != WHOLE)


def test_rows_pair_the_seeds():
    baselines = Baselines(np.zeros((2, 3, 7)), np.array([0.5, 0.5]))
    scores = {
        WHOLE: [np.array([0.0, 0.0]), np.array([1.0, 1.0])],
        "less": [np.array([0.2, 0.0]), np.array([1.3, 1.3])],
    }
    whole, less = rows(scores, baselines)
    assert (whole.worse_by, whole.score, whole.ahead_of_tuned, whole.seeds) == (0.0, 0.5, 0.0, 2)
    assert less.worse_by == pytest.approx(0.2)
    assert less.standard_error == pytest.approx(0.1)
    assert "| less | 0.700 | +0.200 ± 0.100 | +0.200 |" in markdown([whole, less])


def test_a_study_that_was_stopped_goes_on(tmp_path):
    study = Study(tmp_path, SMALL, TINY, groups=2, group_tasks=1)
    found = study.run([WHOLE, "no PPO"], 1, InProcess)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/policy.safetensors")}
    assert len(stamps) == 2
    assert study.run([WHOLE, "no PPO"], 1, InProcess) == found
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(json.loads((tmp_path / "ablations.json").read_text())) == 2


def test_variants_share_searches_and_baselines(tmp_path):
    done: list[object] = []

    class Counting(InProcess):
        def submit(self, jobs, weights=NO_WEIGHTS):
            done.extend(jobs)
            return super().submit(jobs, weights)

    Study(tmp_path / "shared", SMALL, TINY, groups=2, group_tasks=1).run([WHOLE, "no PPO"], 1, Counting)
    shared = [job for job in done if isinstance(job, SearchUnit | BaselineUnit)]
    assert len(shared) == len(set(shared)) > 0
    alone = train(VARIANTS["no PPO"](SMALL), tmp_path / "alone", tasks=TINY)
    beside = Policy.load(next((tmp_path / "shared").glob("02-0/policy.safetensors")))
    for name, value in alone.tensors.items():
        np.testing.assert_array_equal(beside.tensors[name], value)
