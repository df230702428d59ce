"""The heart of the project: what is trained is what is used."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rlsched import CurriculumSampler, Policy, RLScheduler
from rlsched.envs import TrainingScheduleEnv
from rlsched.envs.tasks import Digits, DigitsConfig
from tests.policies import random_policy
from tests.test_population import double


class Exact(Digits):
    """In double precision, where only mistakes make a difference: single precision rounds by machine."""

    def build(self, config):
        return double(super().build(config))


def through_environment(policy: Policy, config: DigitsConfig, run_seed: int):
    """LR scale and bucket weights of every window, by stepping the environment with the policy's actions."""
    env = TrainingScheduleEnv(Exact())
    observation, info = env.reset(seed=0, options={"task": config, "run_seed": run_seed})
    scales, weights, over = [info["lr_scale"]], [info["bucket_weights"]], False
    while not over:
        observation, _, over, _, info = env.step(policy.act(observation[None])[0])
        scales.append(info["lr_scale"])
        weights.append(info["bucket_weights"])
    return np.array(scales), np.array(weights)


def through_scheduler(policy: Policy, config: DigitsConfig, run_seed: int):
    """The same by a training loop written by hand, with a DataLoader."""
    task = Exact().build(config)
    model_seed, draw_seed = (int(s) for s in np.random.SeedSequence(run_seed).generate_state(2))
    model = task.make_model(torch.Generator().manual_seed(model_seed))
    optimizer = task.make_optimizer(model)
    scheduler = RLScheduler(optimizer, config.num_steps, policy, num_decisions=config.num_decisions)
    sampler = CurriculumSampler(task.buckets, config.batch_size, scheduler, seed=draw_seed)
    loader = DataLoader(task.train, batch_sampler=sampler)
    step = 0
    while step < config.num_steps:
        for batch in loader:
            losses = torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
            losses.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if config.feedback:
                with torch.no_grad():
                    scheduler.report_validation(task.loss(model, task.validation).mean())
            scheduler.step(losses)
            step += 1
            if step == config.num_steps:
                break
    history = scheduler.history()
    # The last entry is the state after the end of the run, which is no window.
    return history["lr_scale"][:-1], history["bucket_weights"][:-1]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("feedback", [False, True])
def test_environment_and_scheduler_decide_alike(optimizer, feedback):
    config = DigitsConfig(
        data_seed=5, num_steps=90, num_decisions=15, batch_size=16, optimizer=optimizer, base_lr=0.003,
        feedback=feedback, label_noise=0.2, imbalance=0.5, num_examples=300,
    )  # fmt: skip
    policy = random_policy(seed=1)
    env_scales, env_weights = through_environment(policy, config, run_seed=11)
    scales, weights = through_scheduler(policy, config, run_seed=11)
    assert len(scales) == 16
    np.testing.assert_allclose(scales, env_scales, rtol=1e-6)
    np.testing.assert_allclose(weights, env_weights, rtol=1e-6)
    # The comparison means something: the policy moved both, and not in one way only.
    assert np.ptp(np.log10(env_scales[4:] / (1 - np.arange(4, 16) / 16))) > 0.1
    assert np.ptp(env_weights, axis=0).max() > 0.05


@pytest.mark.parametrize("told", [True, False])
def test_they_decide_alike_without_a_curriculum(told):
    """A run whose data are drawn without the scheduler's say, and that reports mean losses."""
    config = DigitsConfig(
        data_seed=5, num_steps=60, num_decisions=10, batch_size=16, optimizer="adam", base_lr=0.01,
        curriculum=False, batch_size_known=told, epochs_known=told,
    )  # fmt: skip
    policy = random_policy(seed=1)
    env_scales, env_weights = through_environment(policy, config, run_seed=3)
    np.testing.assert_array_equal(env_weights, np.broadcast_to(env_weights[0], env_weights.shape))

    task = Exact().build(config)
    model_seed, draw_seed = (int(s) for s in np.random.SeedSequence(3).generate_state(2))
    model = task.make_model(torch.Generator().manual_seed(model_seed))
    optimizer = task.make_optimizer(model)
    facts: dict[str, Any] = {"batch_size": 16, "epochs": 60 * 16 / len(task.train)} if told else {}
    scheduler = RLScheduler(optimizer, 60, policy, num_decisions=10, **facts)
    loader = DataLoader(task.train, batch_sampler=CurriculumSampler(task.buckets, 16, seed=draw_seed))
    step = 0
    while step < 60:
        for x, y in loader:
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step(loss)
            step += 1
            if step == 60:
                break
    np.testing.assert_allclose(scheduler.history()["lr_scale"][:-1], env_scales, rtol=1e-6)
