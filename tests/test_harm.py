"""Counting how often a policy does harm."""

import json
import math
import re

import numpy as np
import pytest
from rich.console import Console

from rlsched.agents.rollouts import Setting
from rlsched.envs.tasks import FAMILIES
from rlsched.experiments import cli
from rlsched.experiments.harm import CHANCE, LIMIT, METHODS, Case, HarmUnit, _difference, summary, worst
from rlsched.policy import PolicyInterface
from tests.policies import random_policy

ONLY, BOTH = METHODS


def case(only, both=None, misjudged=0.0, feedback=False):
    found = {CHANCE: 0.0, ONLY: only} | ({} if both is None else {BOTH: both})
    return Case("Digits", misjudged, feedback, -1.0, found)


def text(table):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def row(shown, method, kind):
    (line,) = [line for line in shown.splitlines() if re.match(rf". {method} +. {kind} ", line)]
    return [cell.strip() for cell in re.split("[│┃]", line)[3:-1]]


def test_the_summary_counts():
    cases = [
        case(0.06, -0.5, misjudged=-2.0), case(0.04, 0.0, feedback=True), case(-1.0, misjudged=1.0), case(LIMIT),
    ]  # fmt: skip
    shown = text(summary(cases))
    assert row(shown, ONLY, "all") == ["4", "1", "50.0%", "25.0%", "+0.050"]
    assert row(shown, BOTH, "all") == ["2", "0", "0.0%", "50.0%", "-0.250"]
    assert row(shown, ONLY, "with validation feedback") == ["1", "0", "0.0%", "0.0%", "+0.040"]
    assert row(shown, ONLY, "base 10x too low or more")[2] == "100.0%"
    assert row(shown, CHANCE, "all") == ["4", "0", "0.0%", "0.0%", "+0.000"]


def test_the_worst_come_first_and_chance_is_not_among_them():
    lines = text(worst([case(0.1, 0.3), case(2.0), case(-1.0)], count=3)).splitlines()
    found = [re.split("[│┃]", line)[1].strip() for line in lines if "│" in line]
    assert found == ["+2.00", "+0.30", "+0.10"]


@pytest.mark.parametrize(
    ("loss", "reference", "expected"),
    [
        (1.0, 0.5, 0.5),
        (math.inf, 0.5, LIMIT),
        (math.inf, math.inf, LIMIT),
        (1.0, math.inf, -LIMIT),
        (500.0, 0.0, 0.99 * LIMIT),
        (-500.0, 0.0, -LIMIT),
    ],
)
def test_a_run_that_is_not_finite_is_told_from_all_others(loss, reference, expected):
    assert _difference(loss, reference) == expected


def test_a_case_depends_on_nothing_but_its_seed():
    setting = Setting(FAMILIES["quick"](), PolicyInterface())
    weights = dict(random_policy(1).tensors)
    one, again, other = (HarmUnit(seed).run(setting, weights) for seed in (3, 3, 5))
    assert one == again != other
    assert set(one.policy) >= {ONLY, CHANCE}
    still = HarmUnit(3).run(setting, dict(random_policy(1, gain=0.0).tensors))
    assert still.linear == one.linear
    assert still.policy[CHANCE] == one.policy[CHANCE] != 0.0
    assert still.policy[ONLY] != one.policy[ONLY]


def test_the_command_prints_and_writes_every_case(tmp_path, capsys):
    policy = random_policy(0).save(tmp_path / "policy.safetensors")
    command = [
        "harm",
        str(policy),
        "--tasks.family",
        "quick",
        "--count",
        "3",
        "--json",
        str(tmp_path / "cases.json"),
    ]
    assert cli.main(command) == 0
    assert "The worst cases" in capsys.readouterr().out
    cases = json.loads((tmp_path / "cases.json").read_text())
    assert len(cases) == 3
    assert all(np.isfinite(list(each["policy"].values())).all() for each in cases)
    assert cli.main([*command[:4], "--count", "0"]) == 1
    assert "count must be an integer >= 1, got 0" in capsys.readouterr().err
