"""`rlsched compare`: methods side by side on one task."""

import json

import numpy as np
import pytest

from rlsched.controllers import Linear
from rlsched.envs.drive import drive
from rlsched.envs.population import Population
from rlsched.experiments.cli import main as cli
from rlsched.experiments.compare import draw
from rlsched.experiments.evaluation.statistics import mean_by_student
from rlsched.experiments.side_by_side import run_controller


def test_the_command_compares_from_the_same_seeds(tmp_path, capsys):
    flags = ["--task", "quick", "--controllers", "linear,constant,rlsched", "--seeds", "2", "--out", str(tmp_path)]
    assert cli(["compare", *flags]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("linear", "constant", "rlsched"))
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    assert set(found["methods"]) == {"linear", "constant", "rlsched"}
    linear, constant = found["methods"]["linear"], found["methods"]["constant"]
    assert linear["lr"][0][0] == constant["lr"][0][0] == pytest.approx(found["task"]["base_lr"])
    assert linear["validation"][0][0] == constant["validation"][0][0], "the first step is the same"
    assert linear["validation"][0][-1] != constant["validation"][0][-1]
    assert linear["validation"][0] != linear["validation"][1], "seeds differ"
    assert np.ptp(found["methods"]["rlsched"]["bucket_weights"][0], axis=0).max() > 1e-3


def test_losses_are_those_of_driving_the_runs():
    task = draw("quick", 3, 1.0)
    outcome = run_controller(task, Linear(), [5, 6])
    engine = Population([task] * 2)
    engine.reset([5, 6])
    np.testing.assert_array_equal(outcome.final, drive(engine, Linear()))
    np.testing.assert_array_equal(outcome.test, engine.test_loss())
    assert (outcome.spent == task.config.num_steps).all()


def test_a_run_that_fails_is_said_to_have_failed(tmp_path, capsys):
    seed = next(seed for seed in range(20) if draw("quick", seed, 1.0).config.optimizer == "sgd")
    flags = ["--task", "quick", "--controllers", "linear,constant", "--seeds", "2", "--base-lr-factor", "1e6"]
    assert cli(["compare", *flags, "--task-seed", str(seed), "--out", str(tmp_path)]) == 0
    assert "2 of 2" in " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["methods"]["constant"]["test"] == [None, None]


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--task", "nothing"], "task must be one of"),
        (["--controllers", "sgd"], "controllers must be of those"),
        (["--controllers", "linear,warmup"], "warmup is a part"),
        (["--controllers", "linear,layer-rotation"], "layer-rotation cannot schedule this task"),
        (["--controllers", "linear,polyak-momentum", "--task-seed", "1"], "polyak-momentum cannot schedule"),
        (["--seeds", "0"], "seeds must be"),
        (["--base-lr-factor", "0"], "base_lr_factor must be"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(tmp_path, capsys, flags, problem):
    assert cli(["compare", *flags, "--out", str(tmp_path / "out")]) == 1
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_interval_is_students():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    found = mean_by_student(values)
    assert found.value == 3.5
    # 3 degrees of freedom: t = 3.182.
    assert found.high - found.value == pytest.approx(3.182 * values.std(ddof=1) / 2.0, rel=1e-3)
    assert found.value - found.low == pytest.approx(found.high - found.value)
    assert np.isnan(mean_by_student(values[:1]).high)
