"""What the demo prints and draws."""

import numpy as np
import pytest

from rlsched.envs.tasks import Tabular, TabularConfig
from rlsched.experiments.demo import FACTORS, LEARNED, SOURCES, table, tally
from rlsched.experiments.plain_run import TORCH_SCHEDULES, RunResult, run_policy, run_schedule
from rlsched.experiments.plots import plot_demo
from tests.policies import random_policy

TASK = Tabular().build(
    TabularConfig(
        source="wine",
        data_seed=0,
        num_steps=40,
        num_decisions=8,
        batch_size=16,
        optimizer="adam",
        base_lr=0.01,
    )
)


def result(test_loss: float) -> RunResult:
    return RunResult(test_loss, test_loss, np.linspace(1, 0.5, 30), np.full(30, 0.01), np.full((30, 4), 0.25))


@pytest.fixture
def results():
    methods = [*TORCH_SCHEDULES, *LEARNED]
    return {
        (source, factor, method): [result(0.1 * (1 + index)) for _ in range(5)]
        for source in SOURCES
        for factor in FACTORS
        for index, method in enumerate(methods)
    }


@pytest.mark.parametrize("name", TORCH_SCHEDULES)
def test_a_schedule_trains_and_follows_torch(name):
    run = run_schedule(TASK, seed=0, name=name)
    assert run.losses[-5:].mean() < run.losses[:5].mean()
    expected = {"constant": 1.0, "linear": 0.5, "cosine": 0.5}[name]
    assert run.lr[20] == pytest.approx(0.01 * expected)


@pytest.mark.parametrize("curriculum", [False, True])
def test_a_policy_schedules_the_same_run(curriculum):
    run = run_policy(TASK, 0, random_policy(1), curriculum=curriculum)
    assert run.bucket_weights.shape == (40, 4 if curriculum else 0)
    assert np.isfinite(run.test_loss)
    # The same model and, without a curriculum, the same first batch as any other method.
    if not curriculum:
        assert run.losses[0] == pytest.approx(run_schedule(TASK, 0, "linear").losses[0], rel=1e-6)


def test_the_tally_counts_paired_runs(results):
    assert tally(results, "linear", "constant") == "0-0-30"
    assert tally(results, "constant", "linear") == "30-0-0"
    assert tally(results, "cosine", "cosine") == "0-30-0"


def test_a_diverged_run_is_a_loss(results):
    results["wine", 1.0, "constant"] = [result(np.inf)] * 5
    assert tally(results, "constant", "linear") == "25-0-5"


def test_the_table_has_every_method_and_data_set(results):
    shown = table(results)
    assert shown.row_count == len(SOURCES) * (len(TORCH_SCHEDULES) + len(LEARNED))
    assert len(shown.columns) == 2 + len(FACTORS)


def test_the_picture_is_written(results, tmp_path):
    path = plot_demo(results, "wine", FACTORS, 1e-3, tmp_path / "new" / "demo.png")
    assert path.read_bytes().startswith(b"\x89PNG")
