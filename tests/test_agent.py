"""The agent's network: parity of the exported policy, buckets that may be exchanged, who sees what."""

import numpy as np
import pytest
import torch

from rlsched import Policy
from rlsched.action import ActionSpec
from rlsched.agents import RolloutPlan, SchedulePPO, export_policy
from rlsched.agents.export import as_one
from rlsched.agents.network import Actor, Ensemble
from rlsched.agents.normalizer import Normalizer
from rlsched.agents.privileged import FACTS
from rlsched.agents.rollouts import InProcess, Setting
from rlsched.contract import Array
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES, bounds
from rlsched.policy import PolicyInterface
from tests.families import TINY


def make_model(privileged: bool = True, members: int = 1) -> SchedulePPO:
    """An agent after a real iteration, so that its normaliser and weights are not the initial ones."""
    agent = SchedulePPO(
        InProcess(Setting(TINY, PolicyInterface())), RolloutPlan(units=1, slots=4, decisions=20), 4, iterations=1,
        batch_size=40, n_epochs=2, learning_rate=0.01, seed=0,
        policy_kwargs={"log_std_init": -1.0, "privileged": privileged, "members": members},
    )  # fmt: skip
    agent.learn(80, reset_num_timesteps=False)
    # Larger actions, so that the comparisons below see the clipping to [-1, 1] too.
    actor = agent.policy.mlp_extractor.actor
    with torch.no_grad():
        for name, parameter in actor.named_parameters():
            if name.endswith(("lr_head.weight", "bucket_head.1.weight")):
                parameter.mul_(20.0)
    return agent


@pytest.fixture(scope="module", params=[1, 3], ids=["one", "ensemble"])
def model(request) -> SchedulePPO:
    return make_model(members=request.param)


def told(seen: Array, known: Array | float = 0.0) -> Array:
    """Observations followed by facts, which are zeros unless given."""
    return np.concatenate([seen, np.broadcast_to(known, (len(seen), len(FACTS)))], axis=1).astype(np.float32)


def test_the_exported_policy_is_the_agents(model, tmp_path):
    low, high = bounds(4)
    rng = np.random.default_rng(0)
    inside = rng.uniform(low, high, (500, len(low)))
    outside = rng.normal(0.0, 10.0 * np.abs(high), (500, len(low)))
    seen = np.concatenate([inside, outside]).astype(np.float32)
    expected, _ = model.predict(told(seen), deterministic=True)
    path = export_policy(model.policy, ActionSpec()).save(tmp_path / "policy.safetensors")
    difference = np.abs(Policy.load(path).act(seen) - expected)
    assert difference.max() <= 1e-5
    assert (np.abs(expected) == 1.0).any(), "clipping took part in the comparison"
    assert np.ptp(expected, axis=0).min() > 0.01, "the actions are no constants"


def test_an_ensemble_acts_by_the_mean_of_its_members():
    torch.manual_seed(0)
    ensemble = Ensemble(units=5, bucket_units=3, members=3)
    for parameter in ensemble.parameters():
        torch.nn.init.normal_(parameter)
    run, buckets = torch.randn(7, len(RUN_FEATURES)), torch.randn(7, 4, len(BUCKET_FEATURES))
    with torch.no_grad():
        each = [actor.act(run, buckets) for actor in ensemble.actors]
        torch.testing.assert_close(ensemble.act(run, buckets), torch.stack(each).mean(dim=0))
        one = Actor(units=15, bucket_units=9)
        one.load_state_dict(as_one([actor.state_dict() for actor in ensemble.actors]))
        torch.testing.assert_close(one.act(run, buckets), ensemble.act(run, buckets))
    assert (each[0] - each[1]).abs().min() > 1e-4


def test_jobs_act_by_the_exported_policy(model):
    weights = dict(model.weights())
    np.testing.assert_array_equal(weights.pop("log_std"), model.policy.log_std.detach().numpy())
    exported = export_policy(model.policy, ActionSpec())
    assert weights.keys() == exported.tensors.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(value, exported.tensors[name])
    # They are copies, which learning does not change.
    weights["lr_head.bias"][:] = 7.0
    assert (model.weights()["lr_head.bias"] != 7.0).all()


def test_the_agent_is_equivariant_over_buckets(model):
    rng, order = np.random.default_rng(0), [2, 0, 3, 1]
    low, high = bounds(4)
    seen = rng.uniform(low, high, (20, len(low))).astype(np.float32)
    known = rng.uniform(-1.0, 1.0, (20, len(FACTS)))
    runs, width = len(RUN_FEATURES), len(BUCKET_FEATURES)
    moved = seen.copy()
    moved[:, runs:] = seen[:, runs:].reshape(20, 4, width)[:, order].reshape(20, -1)
    one, other = (model.predict(told(each, known), deterministic=True)[0] for each in (seen, moved))
    np.testing.assert_allclose(one[:, 1:][:, order], other[:, 1:], atol=1e-5)
    np.testing.assert_allclose(one[:, 0], other[:, 0], atol=1e-5)
    values = [model.policy.predict_values(torch.as_tensor(told(each, known))).detach() for each in (seen, moved)]
    torch.testing.assert_close(*values, atol=1e-4, rtol=0)


@pytest.mark.parametrize("privileged", [True, False])
def test_facts_reach_the_critic_if_it_is_privileged_and_never_the_actor(privileged):
    agent, rng = make_model(privileged), np.random.default_rng(0)
    low, high = bounds(4)
    seen = rng.uniform(low, high, (50, len(low)))
    one, other = (torch.as_tensor(told(seen, rng.uniform(-2.0, 2.0, (50, len(FACTS))))) for _ in range(2))
    with torch.no_grad():
        values = [agent.policy.predict_values(each).numpy() for each in (one, other)]
        means = [agent.policy.mlp_extractor.forward_actor(each).numpy() for each in (one, other)]
        from_forward = [agent.policy(each, deterministic=True) for each in (one, other)]
    assert (np.abs(values[0] - values[1]) > 1e-4).mean() == (1.0 if privileged else 0.0)
    np.testing.assert_array_equal(means[0], means[1])
    for (actions, value, _), mean, expected in zip(from_forward, means, values, strict=True):
        np.testing.assert_array_equal(actions.numpy(), mean)
        np.testing.assert_array_equal(value.numpy(), expected)
    # What the critic loses says nothing to the actor's weights.
    agent.policy.zero_grad()
    agent.policy.predict_values(one).sum().backward()
    assert all(parameter.grad is None for parameter in agent.policy.mlp_extractor.actor.parameters())


def test_each_fact_reaches_a_privileged_critic(model):
    low, high = bounds(4)
    seen = np.random.default_rng(0).uniform(low, high, (1, len(low)))
    inputs = np.concatenate([told(seen), told(np.repeat(seen, len(FACTS), axis=0), np.eye(len(FACTS)))])
    with torch.no_grad():
        values = model.policy.predict_values(torch.as_tensor(inputs)).numpy()[:, 0]
    assert (np.abs(values[1:] - values[0]) > 1e-6).all()


def test_before_training_the_agent_does_what_the_default_does():
    setting = Setting(TINY, PolicyInterface())
    agent = SchedulePPO(InProcess(setting), RolloutPlan(1, 4, 20), 4, 1, seed=3, batch_size=40)
    low, high = bounds(4)
    seen = np.random.default_rng(0).uniform(low, high, (100, len(low)))
    actions, _ = agent.predict(told(seen), deterministic=True)
    assert np.abs(actions).max() < 0.1


def test_the_normalizer_is_numpys_mean_and_deviation():
    normalizer, rng = Normalizer(), np.random.default_rng(0)
    low, high = bounds(3)
    seen = rng.uniform(low, high, (400, len(low))).astype(np.float32)
    assert not normalizer.calibrated
    for quarter in np.split(seen, 4):
        normalizer.update(torch.as_tensor(quarter))
    assert normalizer.calibrated
    runs = len(RUN_FEATURES)
    pooled = seen[:, runs:].reshape(-1, len(BUCKET_FEATURES))
    for part, values in (("run", seen[:, :runs]), ("bucket", pooled)):
        for name, statistic in (
            ("mean", values.mean(0)),
            ("std", np.maximum(values.std(0), 1e-3)),
            ("low", values.min(0)),
            ("high", values.max(0)),
        ):
            stored = normalizer.get_buffer(f"{part}_{name}").numpy()
            np.testing.assert_allclose(stored, statistic, rtol=1e-3, atol=1e-4)
