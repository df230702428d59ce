"""Pictures of a training, and the figures they are drawn from."""

import numpy as np
import pytest

from rlsched.agents import TaskSettings, TrainConfig
from rlsched.agents.evaluation import FLAWS, Trajectory
from rlsched.envs.tasks import Digits, TaskConfig, quick
from rlsched.experiments import behaviour as behaviour_module
from rlsched.experiments import pictures
from rlsched.experiments.behaviour import PROGRESS, Behaviour, observe, sample
from rlsched.experiments.learning_curve import LearningCurve, read_learning_curve
from rlsched.experiments.plots import plot_behaviour, plot_learning_curve
from rlsched.experiments.plots.style import bucket_label
from tests.policies import random_policy

PNG = b"\x89PNG"


def tasks(count: int) -> list[TaskConfig]:
    rng = np.random.default_rng(0)
    return [Digits().sample(rng) for _ in range(count)]


def made(configs, num_buckets=4) -> Behaviour:
    rng = np.random.default_rng(0)
    log_base = rng.uniform(-2, 2, len(configs))
    log_lr = np.log10(1 - PROGRESS) + rng.normal(0, 0.3, (len(configs), 1))
    weights = rng.dirichlet(np.ones(num_buckets), (len(configs), len(PROGRESS)))
    return Behaviour(configs, log_base, log_lr, weights)


def test_between_decisions_the_learning_rate_decays_and_weights_stay():
    first, second = np.array([0.7, 0.3]), np.array([0.1, 0.9])
    progress = np.array([0.1, 0.5])
    log_lr = np.log10([0.02 * 0.9, 0.04 * 0.5])
    sampled, weights = sample(Trajectory(progress, log_lr, np.stack([first, second])))
    assert np.isnan(sampled[PROGRESS < 0.1]).all()
    middle, late = (PROGRESS >= 0.1) & (PROGRESS < 0.5), PROGRESS >= 0.5
    np.testing.assert_allclose(10 ** sampled[middle], 0.02 * (1 - PROGRESS[middle]))
    np.testing.assert_allclose(10 ** sampled[late], 0.04 * (1 - PROGRESS[late]))
    assert (weights[middle] == first).all()
    assert (weights[late] == second).all()


def test_a_policy_is_observed_on_every_kind_of_task(monkeypatch):
    monkeypatch.setattr(behaviour_module, "GROUPS", 2)
    found = observe(random_policy(0), TrainConfig(), quick())
    assert found.log_lr.shape == (16, len(PROGRESS))
    assert found.weights.shape == (16, len(PROGRESS), 4)
    decided = ~np.isnan(found.weights[:, -1, 0])
    np.testing.assert_allclose(found.weights[decided].sum(axis=2)[:, -1], 1.0)
    assert (np.abs(found.log_base) <= 2.0).all()
    unsteered = found.weights[~found.steered(), -1]
    np.testing.assert_allclose(unsteered, 0.25, atol=0.1)  # near enough equal in size


def test_without_a_curriculum_no_task_is_steered(monkeypatch):
    monkeypatch.setattr(behaviour_module, "GROUPS", 1)
    found = observe(random_policy(0), TrainConfig(tasks=TaskSettings(curriculum=False)), quick())
    assert not found.steered().any()


def test_kinds_are_what_is_the_matter():
    found = made(tasks(200))
    kinds = found.kinds()
    assert list(kinds) == ["all tasks", "clean", *FLAWS]
    assert kinds["all tasks"].all()
    flawed = np.any([kinds[name] for name in FLAWS], axis=0)
    assert (kinds["clean"] == ~flawed).all()
    assert 0 < kinds["clean"].sum() < 60
    noisy = np.array([config.label_noise > 0 for config in found.configs])  # type: ignore[attr-defined]
    assert (kinds["noisy labels"] == noisy).all()
    misjudged = found.misjudgements()
    assert (np.sum(list(misjudged.values()), axis=0) == 1).all()
    assert (found.log_base[misjudged["too low"]] < np.log10(1 / 5)).all()


def test_tasks_that_say_nothing_of_their_data_are_of_no_kind():
    plain = TaskConfig(data_seed=0, num_steps=50, num_decisions=5, batch_size=8, optimizer="adam", base_lr=0.1)
    kinds = made([plain] * 4).kinds()
    assert {name for name, rows in kinds.items() if rows.any()} == {"all tasks"}


@pytest.mark.parametrize(
    ("configs", "num_buckets"), [(tasks(40), 4), (tasks(3), 1), (tasks(1), 4)], ids=["many", "few", "one"]
)
def test_the_behaviour_is_drawn(configs, num_buckets, tmp_path):
    found = made(configs, num_buckets)
    found.log_lr[0, 20:] = found.weights[0, 20:] = np.nan  # a run that diverged
    assert plot_behaviour(found, tmp_path / "new" / "behaviour.png").read_bytes().startswith(PNG)


def test_runs_that_all_diverged_are_drawn_as_nothing(tmp_path):
    found = made(tasks(20))
    found.log_lr[:], found.weights[:] = np.nan, np.nan
    assert plot_behaviour(found, tmp_path / "behaviour.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("scores", [[-1.0, -1.2, -1.1], [-1.0], [float("nan"), -1.0], []])
def test_the_learning_curve_is_drawn(scores, tmp_path):
    curve = LearningCurve(np.arange(len(scores)), np.array(scores), -0.9, -1.1, 12_800)
    assert plot_learning_curve(curve, tmp_path / "curve.png").read_bytes().startswith(PNG)


def test_the_learning_curve_is_read_from_what_was_logged(tmp_path):
    from stable_baselines3.common.logger import configure

    config = TrainConfig()
    decisions = config.rollouts.units * config.rollouts.slots * config.rollouts.decisions
    logger = configure(str(tmp_path), ["tensorboard"])
    for step, score in ((config.warm_start.rounds - 1, -1.0), (10 * decisions, -1.2), (20 * decisions, -1.5)):
        for name, value in (("score", score), ("best_default", -0.9), ("tuned_linear", -1.1)):
            logger.record(f"evaluation/{name}", value)
        logger.dump(step)
    logger.close()
    curve = read_learning_curve(tmp_path, config)
    assert curve.iterations.tolist() == [0, 10, 20]
    np.testing.assert_allclose(curve.scores, [-1.0, -1.2, -1.5])
    assert (curve.default, curve.tuned) == pytest.approx((-0.9, -1.1))
    assert curve.decisions == decisions


def test_without_matplotlib_there_are_no_pictures(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(pictures.importlib.util, "find_spec", lambda name: None)
    assert pictures.draw_pictures(random_policy(0), TrainConfig(), quick(), tmp_path) == []
    assert "pip install 'rlsched[plots]'" in capsys.readouterr().err


def test_a_bucket_is_named_by_its_difficulty():
    assert [bucket_label(k, 3) for k in range(3)] == ["0 (easiest)", "1", "2 (hardest)"]
    assert bucket_label(0, 1) == "0"
