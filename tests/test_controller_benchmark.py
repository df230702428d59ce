"""The benchmark of decisions: it finds every controller, and what it times are decisions that fit."""

import json

import numpy as np
import pytest

from rlsched.benchmarks import controllers as benchmark
from rlsched.controllers import Weighing
from rlsched.controllers.closed_loop import ClosedLoop
from rlsched.controllers.schedules import OpenLoop
from rlsched.experiments.cli import main as cli


def test_every_class_of_controllers_is_found_and_no_base():
    found = {type(controller) for controller in benchmark.controllers()}
    names = {kind.__name__ for kind in found}
    assert {
        "Linear",
        "Warmup",
        "Guard",
        "FixedCurriculum",
        "PolicyController",
        "Hypergradient",
        "Plateau",
    } <= names
    assert not found & {OpenLoop, ClosedLoop, Weighing}


def test_what_is_timed_are_decisions_that_fit_windows_of_realistic_width():
    spec = benchmark.spec()
    seen = benchmark.windows(spec)
    assert len(seen) == benchmark.DECISIONS + 1
    assert 50 <= seen[benchmark.DECISIONS // 2].steps_ahead.max() <= 100
    for controller in benchmark.controllers():
        state = controller.init(spec)
        for window in seen:
            state, decision = controller.decide(state, window)
            decision.check(window)


def test_a_class_whose_arguments_are_not_known_is_named():
    class Odd(ClosedLoop):
        def __init__(self, temper):
            self.temper = temper

    with pytest.raises(ValueError, match="Odd needs temper: add an example of it to ARGUMENTS"):
        benchmark.usual(Odd)


def test_its_rows_join_those_of_bench(tmp_path):
    path = tmp_path / "rows.json"
    assert cli(["bench", "--only", "controllers", "--rounds", "1", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert len(rows) == len(benchmark.controllers())
    assert {row["baseline"] for row in rows} == {1000.0}
    assert all(np.isclose(row["ratio"], row["baseline"] / row["value"]) for row in rows)
