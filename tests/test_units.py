"""Rollout units: what PPO learns from, against episodes of the single environment."""

import dataclasses
import random
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils import seeding

from rlsched.agents import RolloutPlan, SchedulePPO
from rlsched.agents.evaluation import evaluation_seeds
from rlsched.agents.privileged import FACTS, facts
from rlsched.agents.rollouts import InProcess, Rollout, RolloutUnit, Setting, unit_seed
from rlsched.agents.rollouts.unit import even
from rlsched.contract import Array
from rlsched.envs import TrainingScheduleEnv
from rlsched.envs.tasks import FAMILIES, Mixture, Quadratics, TaskFamily, UserConfig
from rlsched.observation import RUN_FEATURES
from rlsched.policy import PolicyInterface
from tests.families import TINY, Explosive, Gentle, Recorded, Touchy, exploring
from tests.policies import random_policy

WEIGHTS = exploring(random_policy(0).tensors)
LOG_SCALE = [feature.name for feature in RUN_FEATURES].index("log_scale")


def setting(tasks: TaskFamily = TINY) -> Setting:
    return Setting(tasks, PolicyInterface())


def same(one: Rollout, other: Rollout) -> bool:
    """Whether two rollouts agree bit for bit."""
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(Rollout)]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def test_a_unit_depends_on_nothing_but_itself():
    units = [RolloutUnit(seed, 4, 15, repeats) for seed, repeats in ((2, 1), (4, 2), (6, 4))]
    alone = [unit.run(setting(), WEIGHTS) for unit in units]
    backend = InProcess(setting())
    for order in ([0, 1, 2], [2, 0, 1], [1, 1, 0]):
        random.seed(order[0])
        np.random.seed(order[0])  # noqa: NPY002 - jobs must not draw from it
        torch.manual_seed(order[0])
        for number, found in zip(order, backend.run([units[n] for n in order], WEIGHTS), strict=True):
            assert same(found, alone[number])
    assert not np.array_equal(alone[0].rewards, RolloutUnit(8, 4, 15).run(setting(), WEIGHTS).rewards)


def numpys_state() -> list[int]:
    state: Any = np.random.get_state()  # noqa: NPY002
    return list(state[1])


def test_a_unit_leaves_the_global_generators_as_they_were():
    before = random.getstate(), numpys_state(), torch.get_rng_state()
    RolloutUnit(2, 4, 12).run(setting(FAMILIES["signals"](min_steps=14, max_steps=16)), WEIGHTS)
    assert random.getstate() == before[0]
    assert numpys_state() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_jobs_act_by_the_weights_as_they_were_when_submitted():
    weights = {name: value.copy() for name, value in WEIGHTS.items()}
    pending = InProcess(setting()).submit([RolloutUnit(2, 3, 10)], weights)
    for value in weights.values():
        value[:] = np.nan
    done: list[int] = []
    (found,) = pending.results(lambda number, _: done.append(number))
    assert same(found, RolloutUnit(2, 3, 10).run(setting(), WEIGHTS))
    assert done == [0]


@dataclass
class Played:
    """What the single environment gives in one slot."""

    observations: list[Array]
    starts: list[bool]
    rewards: list[float]
    facts: list[Array]
    returns: dict[int, tuple[float, int]]
    last: Array
    over: bool


def play(tasks: TaskFamily, unit: RolloutUnit, slot: int, actions: Array) -> Played:
    """The episodes of `slot` by the single environment, one after another; no run diverges.

    The tasks of a unit agree in what its first one decides, and each group of `repeats` slots draws from one
    generator.
    """
    seeds = np.random.SeedSequence(unit.seed).generate_state(unit.slots // unit.repeats + 1)
    first = tasks.sample(seeding.np_random(even(seeds[0]))[0])
    rng = seeding.np_random(even(seeds[slot // unit.repeats]))[0]
    env, over, total, length = TrainingScheduleEnv(tasks), True, 0.0, 0
    played = Played([], [], [], [], {}, np.zeros(0), False)
    for step, action in enumerate(actions):
        if over:
            config = tasks.sample_like(rng, first)
            options = {"task": config, "run_seed": int(rng.integers(2**31))}
            seen, _ = env.reset(options=options)
            total, length = 0.0, 0
        played.observations.append(seen)
        played.starts.append(over)
        played.facts.append(facts(config))
        seen, reward, over, _, _ = env.step(np.clip(action, -1.0, 1.0))
        played.rewards.append(reward)
        total, length = total + reward, length + 1
        if over:
            played.returns[step] = total, length
    played.last, played.over = seen, over
    return played


@pytest.mark.parametrize(("decisions", "repeats"), [(25, 1), (20, 2)])
def test_slots_play_the_episodes_of_the_single_environment(decisions, repeats):
    """Two whole episodes and, in the first case, half of a third one, whose end is not seen."""
    tasks, unit = Gentle(), RolloutUnit(2, 4, decisions, repeats)
    rollout = unit.run(setting(tasks), exploring(random_policy(0).tensors, -0.7))
    assert (np.abs(rollout.actions) > 1.0).any(), "clipping takes part"
    slots = [play(tasks, unit, slot, rollout.actions[:, slot]) for slot in range(4)]
    for slot, played in enumerate(slots):
        np.testing.assert_allclose(rollout.observations[:, slot], played.observations, atol=5e-3)
        np.testing.assert_allclose(rollout.rewards[:, slot], played.rewards, atol=2e-3)
        np.testing.assert_array_equal(rollout.starts[:, slot], played.starts)
        np.testing.assert_array_equal(rollout.facts[:, slot], played.facts)
        np.testing.assert_allclose(rollout.last_observations[slot], played.last, atol=5e-3)
        np.testing.assert_array_equal(rollout.last_facts[slot], played.facts[-1])
        assert rollout.last_starts[slot] == played.over == (decisions == 20)
    assert rollout.starts[[0, 10], :].all()
    assert (rollout.facts[9] != rollout.facts[10]).any(axis=1).all(), "another episode, other facts"
    ended = [played.returns[step] for step in range(decisions) for played in slots if step in played.returns]
    np.testing.assert_allclose(rollout.returns, [total for total, _ in ended], atol=5e-3)
    np.testing.assert_array_equal(rollout.lengths, [10] * 8)
    shapes = {name: getattr(rollout, name).shape[:2] for name in ("observations", "actions", "facts", "peers")}
    assert set(shapes.values()) == {(decisions, 4)}


def test_nothing_is_begun_that_nobody_acts_in():
    tasks = Recorded(TINY)
    RolloutUnit(2, 3, 20).run(setting(tasks), WEIGHTS)
    assert len(tasks.built) == 2 * 3
    tasks.built.clear()
    RolloutUnit(2, 4, 20, repeats=2).run(setting(tasks), WEIGHTS)
    assert len(tasks.built) == 2 * 2, "peers share one task"


@pytest.fixture(scope="module")
def model() -> SchedulePPO:
    """An agent with weights, statistics and noise that are not the initial ones."""
    agent: Any = SchedulePPO(InProcess(setting()), RolloutPlan(1, 4, 20), 4, 2, seed=0, batch_size=40, n_epochs=1)
    agent.learn(80, reset_num_timesteps=False)
    with torch.no_grad():
        agent.policy.log_std.copy_(torch.linspace(-2.0, 0.0, 5))
        agent.policy.mlp_extractor.actor.members[0].lr_head.weight.mul_(50.0)
        agent.policy.mlp_extractor.actor.members[0].bucket_head[1].weight.mul_(50.0)
    return agent


def test_log_probs_are_those_of_stable_baselines(model):
    rollout = RolloutUnit(2, 6, 50).run(setting(), model.weights())
    inputs = np.concatenate([rollout.observations, rollout.facts], axis=2).reshape(300, -1)
    with torch.no_grad():
        _, log_probs, _ = model.policy.evaluate_actions(
            torch.as_tensor(inputs), torch.as_tensor(rollout.actions.reshape(300, -1))
        )
    ratio = np.exp(log_probs.numpy() - rollout.log_probs.ravel())
    np.testing.assert_allclose(ratio, 1.0, atol=1e-5)
    assert np.ptp(rollout.log_probs) > 3.0


def test_actions_are_normal_about_the_policys_mean(model):
    rollout = RolloutUnit(4, 10, 50).run(setting(), model.weights())
    inputs = np.concatenate([rollout.observations, rollout.facts], axis=2).reshape(500, -1)
    with torch.no_grad():
        mean = model.policy.mlp_extractor.forward_actor(torch.as_tensor(inputs)).numpy()
    std = np.exp(np.linspace(-2.0, 0.0, 5))
    z = (rollout.actions.reshape(500, -1) - mean) / std
    # Four standard errors of the mean and of the variance.
    assert np.abs(z.mean(axis=0)).max() < 4.0 / np.sqrt(500)
    assert np.abs(z.var(axis=0) - 1.0).max() < 4.0 * np.sqrt(2.0 / 500)
    assert np.abs(np.corrcoef(z.T) - np.eye(5)).max() < 4.0 / np.sqrt(500)
    lagged = np.corrcoef(z[:-10, 0], z[10:, 0])[0, 1]
    assert abs(lagged) < 4.0 / np.sqrt(490)


def test_peers_are_those_of_one_task_at_one_time():
    rollout = RolloutUnit(2, 6, 12, repeats=3).run(setting(), WEIGHTS)
    for one in np.ndindex(12, 6):
        for other in np.ndindex(12, 6):
            together = one[0] == other[0] and one[1] // 3 == other[1] // 3
            assert (rollout.peers[one] == rollout.peers[other]) == together
    assert rollout.peers.dtype == np.int64
    assert (rollout.peers >= 0).all()
    assert (RolloutUnit(2, 6, 12).run(setting(), WEIGHTS).peers == -1).all()


def test_peers_begin_alike_and_part_by_what_is_decided():
    rollout = RolloutUnit(2, 4, 20, repeats=2).run(setting(Gentle()), WEIGHTS)
    for start in (0, 10):
        np.testing.assert_array_equal(rollout.observations[start, ::2], rollout.observations[start, 1::2])
        assert not np.allclose(rollout.observations[start, 0], rollout.observations[start, 2])
        np.testing.assert_array_equal(rollout.facts[start, ::2], rollout.facts[start, 1::2])
    assert (rollout.actions[0, ::2] != rollout.actions[0, 1::2]).all()
    assert (rollout.rewards[1:10, ::2] != rollout.rewards[1:10, 1::2]).any(axis=0).all()


def test_a_run_that_replaces_another_has_no_peers_until_the_next_round():
    unit = RolloutUnit(2, 8, 24, repeats=2)
    rollout = unit.run(setting(Explosive()), WEIGHTS)
    replaced = np.zeros(8, dtype=bool)
    for step in range(24):
        replaced = (replaced | rollout.starts[step]) if step % 12 else np.zeros(8, dtype=bool)
        np.testing.assert_array_equal(rollout.peers[step] < 0, replaced)
    assert (rollout.peers < 0).any()
    assert (rollout.peers >= 0).any()
    assert rollout.starts[12].all(), "all slots begin the next round together"
    for step in (0, 12):
        np.testing.assert_array_equal(rollout.facts[step, ::2], rollout.facts[step, 1::2])
    diverged = rollout.returns[rollout.lengths < 12]
    assert len(diverged) > 3
    # Its facts are those of the run that has begun.
    for step, slot in np.argwhere(rollout.starts[1:]):
        assert not np.array_equal(rollout.facts[step, slot], rollout.facts[step + 1, slot])


def test_returns_are_the_sums_of_the_rewards_also_where_runs_diverge():
    rollout = RolloutUnit(2, 8, 30, repeats=2).run(setting(Explosive()), WEIGHTS)
    expected = []
    begun, total = np.zeros(8, dtype=int), np.zeros(8)
    ends = np.concatenate([rollout.starts[1:], rollout.last_starts[None]])
    for step in range(30):
        total += rollout.rewards[step]
        for slot in np.flatnonzero(ends[step]):
            expected.append((total[slot], step + 1 - begun[slot]))
            total[slot], begun[slot] = 0.0, step + 1
    np.testing.assert_allclose(rollout.returns, [each for each, _ in expected], atol=1e-4)
    np.testing.assert_array_equal(rollout.lengths, [length for _, length in expected])
    assert np.isclose(rollout.returns, -5.0, atol=1e-4).sum() > 3


def test_joined_rollouts_lie_side_by_side_and_keep_their_peers_apart():
    tasks = Mixture([Touchy(), TINY])
    parts = [
        RolloutUnit(2, 4, 12, repeats=2).run(setting(tasks), WEIGHTS),
        RolloutUnit(4, 3, 12).run(setting(tasks), WEIGHTS),
        RolloutUnit(6, 6, 12, repeats=3).run(setting(tasks), WEIGHTS),
    ]
    joined = Rollout.join(parts)
    for name in ("observations", "actions", "log_probs", "rewards", "starts", "facts", "peers"):
        assert getattr(joined, name).shape[:2] == (12, 13)
    columns = np.cumsum([0, 4, 3, 6])
    for part, first, last in zip(parts, columns[:-1], columns[1:], strict=True):
        for name in ("observations", "actions", "log_probs", "rewards", "starts", "facts"):
            np.testing.assert_array_equal(getattr(joined, name)[:, first:last], getattr(part, name))
        for name in ("last_observations", "last_facts", "last_starts"):
            np.testing.assert_array_equal(getattr(joined, name)[first:last], getattr(part, name))
        mine = joined.peers[:, first:last]
        np.testing.assert_array_equal(mine < 0, part.peers < 0)
        others = np.delete(joined.peers, np.arange(first, last), axis=1)
        assert not np.isin(mine[mine >= 0], others).any()
        # The same partition under other numbers.
        flat, before = mine[mine >= 0], part.peers[part.peers >= 0]
        np.testing.assert_array_equal(flat[:, None] == flat, before[:, None] == before)
    np.testing.assert_array_equal(joined.returns, np.concatenate([part.returns for part in parts]))
    np.testing.assert_array_equal(joined.lengths, np.concatenate([part.lengths for part in parts]))


def test_seeds_of_units_are_even_and_differ():
    seeds = {
        unit_seed(seed, iteration, index)
        for seed in range(5) for iteration in (*range(50), 2**30, 2**30 + 1) for index in range(8)
    }  # fmt: skip
    assert len(seeds) == 5 * 52 * 8
    assert not any(seed % 2 for seed in seeds)
    assert not any(even(value) % 2 for value in np.random.default_rng(0).integers(2**32, size=1000))
    for purpose in (0, 1):
        assert all(seed % 2 for seed in evaluation_seeds(0, 1000, purpose))
    assert not set(evaluation_seeds(0, 1000, 0)) & set(evaluation_seeds(0, 1000, 1))


def test_facts_are_finite_about_one_and_tell_tasks_apart():
    rng, rows = np.random.default_rng(0), []
    for name in FAMILIES:
        for _ in range(20):
            config = FAMILIES[name]().sample(rng)
            values = facts(config)
            assert values.shape == (len(FACTS),)
            assert values.dtype == np.float32
            known: dict[str, Any] = dict(zip(FACTS, values.tolist(), strict=True))
            assert known["log_base_lr"] == pytest.approx(np.log10(config.base_lr) / 2.0, abs=1e-5)
            kinds = {fact: value for fact, value in known.items() if fact.startswith("is_") and value}
            # Families that no mixture has are of no kind.
            assert kinds == ({} if name in ("diffusion", "continual") else {f"is_{type(config).__name__}": 1.0})
            rows.append(values)
    user = UserConfig(data_seed=0, num_steps=9, num_decisions=5, batch_size=4, base_lr=0.1, function="mine")
    rows.append(facts(user))
    assert np.isfinite(rows).all()
    assert np.abs(rows).max() < 3.5
    constant = [fact for fact, width in zip(FACTS, np.ptp(rows, axis=0), strict=True) if not width]
    assert not constant
    plain = facts(dataclasses.replace(Quadratics().sample(rng), base_lr=0.0))
    assert np.isfinite(plain).all()
