"""The Gymnasium environment: contracts of both libraries, reproducibility, reward, termination."""

import dataclasses
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from rlsched.envs import TorchRun, TrainingScheduleEnv
from rlsched.envs.tasks import Digits, DigitsConfig, Tabular
from rlsched.envs.vector import PopulationVectorEnv
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES

CONFIG = DigitsConfig(data_seed=3, num_steps=60, num_decisions=10, batch_size=16, optimizer="adam", base_lr=0.01)


def make(**arguments):
    return gymnasium.make("rlsched/TrainingSchedule-v0", **arguments).unwrapped


def episode(env, actions, seed=None, **options):
    observation, info = env.reset(seed=seed, options=options or None)
    seen, rewards, infos = [observation], [], [info]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append(observation)
        rewards.append(reward)
        infos.append(info)
        assert not truncated
        if terminated:
            break
    return np.array(seen), np.array(rewards), infos


def actions(count=100, size=5, seed=0, scale=0.3):
    rng = np.random.default_rng(seed)
    return rng.uniform(-scale, scale, (count, size)).astype(np.float32)


@pytest.mark.parametrize("tasks", [Digits(), Digits(num_buckets=1), Tabular()])
def test_both_checkers_pass_without_a_warning(tasks):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(tasks=tasks))
        check_env_sb3(make(tasks=tasks))


class Broken(TrainingScheduleEnv):
    def step(self, action):
        observation, *rest = super().step(action)
        return observation * np.float32(1e6), *rest


def test_the_checkers_can_fail():
    with pytest.raises((AssertionError, UserWarning), match="observation"):
        check_env(Broken())
    with pytest.raises((AssertionError, UserWarning), match="observation"):
        check_env_sb3(Broken())


def test_equal_seeds_give_bit_equal_episodes_and_others_do_not():
    env = make()
    one, rewards, _ = episode(env, actions(), seed=4)
    episode(env, actions(3), seed=5)
    same, rewards_again, _ = episode(env, actions(), seed=4)
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(rewards, rewards_again)
    other, _, _ = episode(env, actions(), seed=6)
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_an_episode_has_one_step_a_decision_and_trains_to_the_end():
    _, rewards, infos = episode(make(), actions(), seed=0, task=CONFIG)
    assert len(rewards) == 10
    assert infos[0]["step"] == 1
    assert infos[-1]["step"] == 60


def test_the_return_is_the_log_ratio_of_validation_losses():
    _, rewards, infos = episode(make(), actions(), seed=0, task=CONFIG)
    ratio = infos[0]["validation_loss"] / infos[-1]["validation_loss"]
    assert rewards.sum() == pytest.approx(np.log(ratio), abs=1e-9)
    assert np.log(ratio) > 0.5


@pytest.mark.parametrize("base_lr", [1e5, 1e38])
def test_a_diverged_run_terminates_with_the_lowest_return(base_lr):
    """Both a run that diverges on the way and one that does so in its opening."""
    diverging = dataclasses.replace(CONFIG, optimizer="sgd", base_lr=base_lr)
    env = make()
    env.reset(seed=0, options={"task": diverging})
    total, terminated, truncated = 0.0, False, False
    while not terminated:
        _, reward, terminated, truncated, info = env.step(np.ones(5, np.float32))
        total += reward
    assert not truncated
    assert info["step"] < 60
    assert total == pytest.approx(-5.0)


def test_the_test_data_never_enter_the_environment(monkeypatch):
    clean, rewards, _ = episode(make(), actions(), seed=0, task=CONFIG)

    class Spoiled(Digits):
        def build(self, config):
            task = super().build(config)
            task.test[0].fill_(np.nan)
            return task

    def refuse(run):
        raise AssertionError("the environment looked at the test data")

    monkeypatch.setattr(TorchRun, "test_loss", refuse)
    other, rewards_again, _ = episode(make(tasks=Spoiled()), actions(), seed=0, task=CONFIG)
    np.testing.assert_array_equal(clean, other)
    np.testing.assert_array_equal(rewards, rewards_again)


def test_feedback_is_observed_only_where_the_task_gives_it():
    index = [feature.name for feature in RUN_FEATURES].index("feedback")
    for feedback in (False, True):
        task = dataclasses.replace(CONFIG, feedback=feedback)
        seen, _, _ = episode(make(), actions(), seed=0, task=task)
        assert (seen[:, index] == float(feedback)).all()


def test_actions_move_the_learning_rate_and_the_mixture():
    up = np.array([[1.0, 1, 0, 0, -1]] * 20, np.float32)
    _, _, raised = episode(make(), up, seed=0, task=CONFIG)
    _, _, default = episode(make(), 0 * up, seed=0, task=CONFIG)
    moved = [np.log10(a["lr_scale"] / b["lr_scale"]) for a, b in zip(raised[1:6], default[1:6], strict=True)]
    np.testing.assert_allclose(moved, [0.7, 1.4, 2.1, 2.8, 3.0], atol=1e-9)
    assert raised[-1]["bucket_weights"][0] > 0.6
    np.testing.assert_allclose(default[-1]["bucket_weights"], 0.25, atol=0.01)


def test_the_docstring_tables_every_index():
    text = TrainingScheduleEnv.__doc__ or ""
    size = len(RUN_FEATURES) + 6
    assert f"shape ({len(RUN_FEATURES)} + {len(BUCKET_FEATURES)} K,)" in text
    for index, feature in enumerate(RUN_FEATURES):
        assert f"| {index} | [{feature.low:g}, {feature.high:g}] | {feature.unit} | {feature.meaning} |" in text
    for index, feature in enumerate(BUCKET_FEATURES):
        assert f"| {len(RUN_FEATURES) + index} + 6 k | [{feature.low:g}" in text
    assert make(tasks=Digits(num_buckets=1)).observation_space.shape == (size,)


@pytest.mark.parametrize("action", [np.zeros(4), np.full(5, np.nan), np.zeros((1, 5))])
def test_a_bad_action_is_refused(action):
    env = make()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action must be finite with shape"):
        env.step(action)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match=r"options must be among 'task' and 'run_seed', got \['tsak'\]"):
        make().reset(options={"tsak": CONFIG})
    with pytest.raises(ValueError, match="task must have 4 buckets, as its family says, got 2"):
        make().reset(options={"task": dataclasses.replace(CONFIG, num_buckets=2)})
    with pytest.raises(ValueError, match=r"options\['run_seed'\] must be an integer >= 0, got -1"):
        make().reset(options={"run_seed": -1})
    with pytest.raises(TypeError, match="config must be of type DigitsConfig, got int"):
        make().reset(options={"task": 3})


def test_a_family_that_cannot_be_built_is_refused_at_once():
    class Broken(Digits):
        def build(self, config):
            raise ValueError("there are no data")

    class Fewer(Digits):
        def build(self, config):
            return super().build(dataclasses.replace(config, num_buckets=2))

    for make in (TrainingScheduleEnv, PopulationVectorEnv):
        with pytest.raises(ValueError, match="there are no data"):
            make(Broken())
        with pytest.raises(ValueError, match="task must have 4 buckets, as its family says, got 2"):
            make(Fewer())
        with pytest.raises(TypeError, match="tasks must be a TaskFamily, got the class Digits: give"):
            make(Digits)  # type: ignore[arg-type]
