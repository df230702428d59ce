"""The real cases: their data, their loop, and what is made of them."""

import json

import numpy as np
import pytest
import torch

from rlsched import Policy
from rlsched.experiments.real_cases import examine as examining
from rlsched.experiments.real_cases import runs
from rlsched.experiments.real_cases.__main__ import main, table
from rlsched.experiments.real_cases.cases import CASES, digits
from rlsched.experiments.real_cases.examine import DEFAULT, METHODS, Found, examine
from tests.policies import random_policy


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_three_parts_of_one_data_set_and_a_model_for_it(case):
    problem = case.make(0)
    sizes = [len(part) for part in (problem.train, problem.validation, problem.test)]
    assert sizes[1] == sizes[2] == pytest.approx(sizes[0] / 3, abs=2)
    parts = [{x.numpy().tobytes() for x in part.tensors[0]} for part in (problem.train, problem.test)]
    repeated = len(parts[0] & parts[1]) / len(parts[1])
    assert repeated < 0.02, "a text has lines that occur twice"
    x, y = problem.validation[:8]
    losses = problem.loss(problem.make_model()(x), y)
    assert losses.shape == (8,)
    assert torch.isfinite(losses).all()
    other = case.make(1)
    assert not torch.equal(problem.train.tensors[0], other.train.tensors[0])


def test_labels_are_wrong_in_training_alone():
    right, wrong = digits(0.0)(3), digits(0.3)(3)
    assert torch.equal(right.train.tensors[0], wrong.train.tensors[0])
    changed = (right.train.tensors[1] != wrong.train.tensors[1]).float().mean().item()
    assert changed == pytest.approx(0.3 * 0.9, abs=0.03), "a tenth of those drawn anew is right"
    for part in ("validation", "test"):
        assert torch.equal(getattr(right, part).tensors[1], getattr(wrong, part).tensors[1])


@pytest.mark.parametrize(
    "how",
    [
        {"schedule": "linear"},
        {"policy": Policy.default()},
        {"policy": Policy.default(), "feedback": True},
        {"policy": Policy.default(), "curriculum": True},
    ],
    ids=["linear", "LR", "validated", "curriculum"],
)
def test_a_run_learns_and_can_be_repeated(how, monkeypatch):
    monkeypatch.setattr(runs, "STEPS", 60)
    problem = digits(0.0)(0)
    before = torch.get_rng_state()
    validation, test = runs.run(problem, 5, 1e-3, **how)
    assert torch.equal(before, torch.get_rng_state())
    assert max(validation, test) < 0.9 * np.log(10)
    assert runs.run(problem, 5, 1e-3, **how) == (validation, test)


def test_the_tuned_run_is_the_best_by_validation_and_reports_from_other_seeds(monkeypatch):
    """Losses are made up: the validation loss favours cosine at 3e-3, the test loss another."""
    asked = []

    def run(problem, seed, lr, *, schedule="", policy=None, curriculum=False, feedback=False):
        asked.append((seed, lr, schedule))
        best = (schedule, lr) == ("cosine", 3e-3)
        return (0.1 if best else float("nan") if lr == 1e-2 else 1.0), 7.0 + seed + (10.0 if policy else 0.0)

    monkeypatch.setattr(examining, "run", run)
    found = examine("digits, MLP", random_policy(0))
    assert found.tuned == ("cosine", 3e-3)
    assert found.losses["tuned"] == found.losses[DEFAULT] == [8.0, 9.0, 10.0]
    assert found.losses["curriculum"] == [18.0, 19.0, 20.0]
    assert [seed for seed, *_ in asked].count(0) == 18
    assert found.log_ratio("curriculum") == pytest.approx(np.mean(np.log(np.array([18, 19, 20]) / [8, 9, 10])))


def found_of(scale):
    losses = {method: [scale, scale] for method in (DEFAULT, *METHODS)}
    return Found(("linear", 0.01), losses | {"tuned": [1.0, 1.0]})


def test_the_table_has_every_case_and_means_of_both_kinds():
    shown = table({"patches, CNN": found_of(np.e), "patches, 30 % wrong, CNN": found_of(np.exp(-3.0))})
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()]
    assert lines[2][:3] == ["patches, CNN", "linear 0.01", "+1.000"]
    assert [line[2] for line in lines[3:]] == ["-3.000", "**-1.000**", "**-3.000**", "**+1.000**"]


def test_it_goes_on_where_it_was_stopped_and_keeps_policies_apart(tmp_path, monkeypatch, capsys):
    done = []

    def examined(name, policy):
        done.append(name)
        return found_of(2.0)

    monkeypatch.setattr("rlsched.experiments.real_cases.__main__.examine", examined)
    main(tmp_path, only="patches, 30")
    main(tmp_path, only="patches")
    assert done == ["patches, 30 % wrong, CNN", "patches, CNN"]
    assert "+0.693" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "real_cases.png").read_bytes().startswith(b"\x89PNG")
    assert set(json.loads((tmp_path / "results.json").read_text())["cases"]) == set(done)
    other = random_policy(1).save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="must not hold results of another policy"):
        main(tmp_path, policy=str(other))
    with pytest.raises(ValueError, match=r"only must be part of the name of a case .*digits.*, got 'wombat'"):
        main(tmp_path, only="wombat")
