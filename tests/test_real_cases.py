"""The real cases: their data, their runs, and what is made of them."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from rlsched.envs.tasks.losses import cross_entropy
from rlsched.experiments.plain_run import RunResult
from rlsched.experiments.real_cases import examine as examining
from rlsched.experiments.real_cases.__main__ import main, table
from rlsched.experiments.real_cases.case import mlp
from rlsched.experiments.real_cases.data import user_task
from rlsched.experiments.real_cases.examine import DEFAULT, EVERY, METHODS, SEEDS, Found, examine, task_of
from tests.policies import random_policy


def rows(values):
    return [row.numpy().tobytes() for row in values]


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
def test_a_case_is_a_task_of_three_parts(case):
    task = task_of(case, 0)
    train, validation, test = (rows(part[0]) for part in (task.train[:], task.validation, task.test))
    assert len(validation) == len(test) == pytest.approx(len(train) / 3, abs=2)
    # Some lines of a text and some points of the sky are alike.
    for one, another in ((train, validation), (train, test), (validation, test)):
        assert len(set(one) & set(another)) / len(set(another)) < 0.02
    losses = task.loss(task.make_model(torch.Generator().manual_seed(0)), [part[:8] for part in task.validation])
    assert losses.shape == (8,)
    assert torch.isfinite(losses).all()


def parts(seed, **how) -> dict[str, Any]:
    """The parts of a task on examples that are their own numbers."""
    numbers = np.arange(500.0)[:, None]
    return vars(user_task(numbers, np.arange(500) % 7, lambda: mlp(1, 2, 7), cross_entropy, seed, **how))


def test_seeds_divide_what_is_not_of_the_test_anew():
    one, other = parts(1), parts(2)
    assert torch.equal(one["test"][0], other["test"][0])
    assert not torch.equal(one["validation"][0].sort(0).values, other["validation"][0].sort(0).values)
    for found in (one, other):
        whole = torch.cat([found[name][0] for name in ("train", "validation", "test")])
        assert torch.equal(whole.flatten().sort().values, torch.arange(500.0))


def test_labels_are_wrong_in_training_alone():
    right, wrong = parts(3), parts(3, wrong=0.3)
    changed = (right["train"][1] != wrong["train"][1]).float().mean().item()
    assert changed == pytest.approx(0.3 * 6 / 7, abs=0.05), "of those drawn anew, one in seven is right"
    for name in ("train", "validation", "test"):
        assert torch.equal(right[name][0], wrong[name][0])
    for name in ("validation", "test"):
        assert torch.equal(right[name][1], wrong[name][1])


def test_inputs_are_standardised_by_the_training_part_alone():
    plain, found = parts(0), parts(0, standardise=True)
    train = plain["train"][0]
    for name in ("train", "validation", "test"):
        expected = (plain[name][0] - train.mean()) / train.std(correction=0)
        torch.testing.assert_close(found[name][0], expected)
        assert torch.equal(found[name][1], plain[name][1]), "classes are no quantities"


def outcome(validation, test):
    return RunResult(test, validation, np.zeros(0), np.zeros(0), np.zeros(0))


def test_the_tuned_run_is_the_best_by_validation_and_reports_from_other_seeds(monkeypatch):
    """Losses are made up: validation favours cosine at 3e-3, the test linear decay at 1e-2."""
    asked, told = [], []

    def run_schedule(task, seed, name):
        lr = task.config.base_lr
        asked.append((task.config.data_seed, seed, name, lr))
        return outcome(0.1 if (name, lr) == ("cosine", 3e-3) else float("inf") if lr == 3e-2 else 1.0, seed + lr)

    def run_policy(task, seed, policy, *, curriculum, feedback=False):
        told.append((task.config.data_seed, seed, task.config.base_lr, curriculum, feedback))
        return outcome(1.0, 10.0 + seed)

    monkeypatch.setattr(examining, "run_schedule", run_schedule)
    monkeypatch.setattr(examining, "run_policy", run_policy)
    found = examine("diabetes, MLP", random_policy(0))
    assert found.tuned == ("cosine", 3e-3)
    assert found.test["tuned"] == [seed + 3e-3 for seed in SEEDS]
    assert found.test[DEFAULT] == [seed + 1e-3 for seed in SEEDS]
    assert found.test["curriculum"] == [10.0 + seed for seed in SEEDS]
    assert len(asked) == 18 + 2 * len(SEEDS)
    assert {(data, seed) for data, seed, *_ in asked[:18]} == {(0, 0)}
    for seed in SEEDS:
        assert (seed, seed, "cosine", 3e-3) in asked[18:]
        assert (seed, seed, 3e-2, False, False) in told
        assert (seed, seed, 1e-3, True, True) in told
    assert len(told) == len(METHODS) * len(SEEDS)


def found_of(scale, **changes):
    losses = {method: [scale, scale] for method in (DEFAULT, *METHODS)} | {"tuned": [1.0, 1.0]} | changes
    return Found(("linear", 0.01), {method: [2.0, 2.0] for method in losses} | {"tuned": [1.0, 1.0]}, losses)


def test_ratios_are_of_the_same_seed_and_a_run_that_failed_counts_as_bad_as_any():
    found = found_of(1.0, tuned=[1.0, 2.0], curriculum=[2.0, 2.0], **{DEFAULT: [float("inf"), 2.0]})
    assert found.log_ratio("curriculum") == pytest.approx(np.log(2.0) / 2)
    assert found.log_ratio("curriculum", "validation") == pytest.approx(np.log(2.0))
    assert found.log_ratio(DEFAULT) == 1.5


def test_the_table_has_means_of_what_was_seen_and_what_was_not():
    cases = {"patches, CNN": 1.0, "clusters, MLP": 0.5, "patches, 30 % wrong, CNN": -2.0, "digits, MLP": 2.5}
    shown = table({name: found_of(np.exp(value)) for name, value in cases.items()}, "test")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()]
    assert lines[2][:3] == ["patches, CNN", "linear 0.01", "+1.000"]
    means = {line[0]: line[2] for line in lines[6:]}
    assert means["**never seen, right labels**"] == "**+0.750** ± 3.18", "t(1) = 12.7 and a deviation of 0.354"
    assert means["**never seen, wrong labels**"] == "**-2.000**"
    assert means["**data seen in training**"] == "**+2.500**"
    assert means["**all**"].startswith("**+0.500** ± ")
    assert "+0.693" in table({"patches, CNN": found_of(1.0)}, "validation")


def test_it_goes_on_where_it_was_stopped_and_keeps_apart_what_differs(tmp_path, monkeypatch, capsys):
    done = []

    def examined(name, policy):
        done.append(name)
        return found_of(2.0, curriculum=[float("inf"), 1.0])

    monkeypatch.setattr("rlsched.experiments.real_cases.__main__.examine", examined)
    main(tmp_path, only="patches, 30")
    main(tmp_path, only="patches")
    assert done == ["patches, 30 % wrong, CNN", "patches, CNN"]
    shown = (tmp_path / "table.md").read_text()
    assert shown.count("| patches") == 2
    assert "+0.693" in shown
    assert "+1.500" in shown
    assert (tmp_path / "real_cases.png").read_bytes().startswith(b"\x89PNG")
    other = random_policy(1).save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="must not hold results of another policy"):
        main(tmp_path, policy=other)
    path = tmp_path / "results.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"protocol": {}}))
    with pytest.raises(ValueError, match="must not hold results of another protocol"):
        main(tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"results\.json is: remove it"):
        main(tmp_path)
    with pytest.raises(ValueError, match=r"only must be part of the name of a case .*digits.*, got 'wombat'"):
        main(tmp_path, only="wombat")
