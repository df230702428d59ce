"""What PPO makes of rollout units: returns, advantages, learning rates, and whose actions it learns from."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from rlsched.agents import RolloutPlan, SchedulePPO
from rlsched.agents.advantages import relative_to_peers
from rlsched.agents.privileged import FACTS
from rlsched.agents.rollouts import (
    NO_WEIGHTS,
    InProcess,
    Job,
    Pending,
    Rollout,
    RolloutUnit,
    Setting,
    Weights,
    ignore,
)
from rlsched.contract import Array
from rlsched.observation import bounds
from rlsched.policy import PolicyInterface
from tests.families import TINY, Recorded

SETTING = Setting(TINY, PolicyInterface())


def make_model(plan: RolloutPlan, backend=None, iterations=3, **settings) -> SchedulePPO:
    settings = {
        "batch_size": plan.units * plan.slots * plan.decisions // 2,
        "n_epochs": 2,
        "gamma": 1.0,
        "seed": 0,
    } | settings
    return SchedulePPO(backend or InProcess(SETTING), plan, 4, iterations, **settings)


def step(model: SchedulePPO) -> None:
    """An iteration."""
    model.learn(model.n_envs * model.n_steps, reset_num_timesteps=False)


def by_loops(advantages: Array, peers: Array) -> Array:
    """`relative_to_peers`, slowly."""
    found = advantages.copy()
    for here in np.ndindex(advantages.shape):
        if peers[here] < 0:
            continue
        others = [advantages[o] for o in np.ndindex(advantages.shape) if o != here and peers[o] == peers[here]]
        if others:
            found[here] = advantages[here] - sum(others) / len(others)
    return found


def test_advantages_are_relative_to_the_mean_of_the_other_peers():
    rng = np.random.default_rng(0)
    for _ in range(20):
        advantages = rng.standard_normal((6, 5)).astype(np.float32)
        peers = np.where(rng.random((6, 5)) < 0.3, -1, rng.integers(0, 12, (6, 5)))
        found = relative_to_peers(advantages, peers)
        np.testing.assert_allclose(found, by_loops(advantages, peers), atol=1e-5)
        assert found.dtype == np.float32
    lonely = np.full((6, 5), -1)
    np.testing.assert_array_equal(relative_to_peers(advantages, lonely), advantages)
    np.testing.assert_array_equal(relative_to_peers(advantages, np.arange(30).reshape(6, 5)), advantages)


def test_advantages_relative_to_peers_leave_the_gradient_unbiased_and_take_out_shared_luck():
    """A bandit: actions a ~ N(theta, 1), reward a^2 + luck, so the gradient of its mean is 2 theta."""
    rng, theta, groups = np.random.default_rng(0), 1.0, 100_000
    actions = theta + rng.standard_normal((groups, 2))
    rewards = actions**2 + 10.0 * rng.standard_normal((groups, 1))
    peers = np.repeat(np.arange(groups), 2).reshape(groups, 2)
    score = actions - theta
    plain, relative = score * rewards, score * relative_to_peers(rewards, peers)
    error = relative.mean(axis=1).std() / np.sqrt(groups)
    # With itself among the peers the mean would be half of it.
    assert relative.mean() == pytest.approx(2.0 * theta, abs=4.0 * error)
    assert error < 0.03
    assert relative.var() < 0.3 * plain.var()


def made_up(model: SchedulePPO, rng: np.random.Generator) -> Rollout:
    """A rollout of the shape that `model` wants, with everything at random."""
    steps, runs = model.n_steps, model.n_envs
    low, high = bounds(4)
    return Rollout(
        observations=rng.uniform(low, high, (steps, runs, len(low))).astype(np.float32),
        actions=rng.standard_normal((steps, runs, 5)).astype(np.float32),
        log_probs=rng.standard_normal((steps, runs)).astype(np.float32),
        rewards=rng.standard_normal((steps, runs)).astype(np.float32),
        starts=np.concatenate([np.ones((1, runs), dtype=bool), rng.random((steps - 1, runs)) < 0.3]),
        facts=rng.uniform(-1.0, 1.0, (steps, runs, len(FACTS))).astype(np.float32),
        peers=np.where(rng.random((steps, runs)) < 0.2, -1, rng.integers(0, 9, (steps, runs))),
        last_observations=rng.uniform(low, high, (runs, len(low))).astype(np.float32),
        last_facts=rng.uniform(-1.0, 1.0, (runs, len(FACTS))).astype(np.float32),
        last_starts=np.arange(runs) % 2 == 0,
        returns=np.zeros(0, dtype=np.float32),
        lengths=np.zeros(0, dtype=np.float32),
    )


@pytest.mark.parametrize(("gae_lambda", "gamma"), [(0.0, 1.0), (0.9, 1.0), (1.0, 1.0), (0.9, 0.7)])
@pytest.mark.parametrize("relative", [True, False])
def test_advantages_and_returns_are_those_of_a_slow_sum(gae_lambda, gamma, relative):
    """A_t = sum_k (gamma lambda)^k delta_{t+k} to the end of the episode; the return is A_t + V_t.

    Where an episode is cut by the end of the rollout, its value there stands for the rest.
    """
    model = make_model(RolloutPlan(1, 4, 7), gae_lambda=gae_lambda, gamma=gamma, relative=relative)
    rng = np.random.default_rng(0)
    rollout = made_up(model, rng)
    assert 0 < rollout.starts[1:].sum() < 20
    model._fill(model.rollout_buffer, rollout, stale=False)
    buffer = model.rollout_buffer
    expected, returns = np.zeros((7, 4)), np.zeros((7, 4))
    for slot in range(4):
        seen = np.concatenate([rollout.observations[:, slot], rollout.last_observations[slot][None]])
        known = np.concatenate([rollout.facts[:, slot], rollout.last_facts[slot][None]])
        with torch.no_grad():
            inputs = torch.as_tensor(np.concatenate([seen, known], axis=1))
            values = model.policy.predict_values(inputs).numpy()[:, 0]
        ends = [*rollout.starts[1:, slot], rollout.last_starts[slot]]
        for begin in range(7):
            for now in range(begin, 7):
                ahead = 0.0 if ends[now] else values[now + 1]
                delta = rollout.rewards[now, slot] + gamma * ahead - values[now]
                expected[begin, slot] += (gamma * gae_lambda) ** (now - begin) * delta
                if ends[now]:
                    break
            returns[begin, slot] = expected[begin, slot] + values[begin]
    # What the critic is to learn is not relative to anybody.
    np.testing.assert_allclose(buffer.returns, returns, atol=1e-4)
    wanted = by_loops(expected, rollout.peers) if relative else expected
    np.testing.assert_allclose(buffer.advantages, wanted, atol=1e-4)
    np.testing.assert_array_equal(buffer.observations[..., : -len(FACTS)], rollout.observations)
    np.testing.assert_array_equal(buffer.observations[..., -len(FACTS) :], rollout.facts)
    for name in ("actions", "rewards", "log_probs"):
        np.testing.assert_array_equal(getattr(buffer, name), getattr(rollout, name))


def test_without_cuts_and_with_lambda_one_returns_are_sums_of_rewards():
    model = make_model(RolloutPlan(1, 4, 20), gae_lambda=1.0)
    rollout = RolloutUnit(2, 4, 20).run(SETTING, model.weights())
    model._fill(model.rollout_buffer, rollout, stale=False)
    for first in (0, 10):
        to_go = rollout.rewards[first : first + 10][::-1].cumsum(axis=0)[::-1]
        np.testing.assert_allclose(model.rollout_buffer.returns[first : first + 10], to_go, atol=1e-4)


class Recording(InProcess):
    """Remembers what it was given, and does it at once or when asked for, as its backend is quick or slow."""

    def __init__(self, quick: bool = False) -> None:
        super().__init__(SETTING)
        self.quick = quick
        self.batches: list[tuple[list[Job], Weights]] = []

    def submit(self, jobs: Sequence[Job], weights: Weights = NO_WEIGHTS) -> Pending:
        self.batches.append((list(jobs), {name: np.array(value) for name, value in weights.items()}))
        pending = super().submit(jobs, weights)
        return Kept(pending.results()) if self.quick else pending


class Kept(Pending):
    def __init__(self, found) -> None:
        self.found = found

    def results(self, done=ignore):
        return self.found


def alike(one: Weights, other: Weights) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one.keys() | other.keys())


PLAN = RolloutPlan(units=2, slots=3, decisions=10)
AHEAD = RolloutPlan(units=2, slots=3, decisions=10, overlap=True)


def test_every_iteration_learns_from_units_of_its_own_and_the_present_policy():
    backend = Recording()
    model = make_model(PLAN, backend)
    for _ in range(3):
        step(model)
    first, *batches = backend.batches
    assert first[0] == PLAN.of(0, 0), "the first look at observations"
    assert [jobs for jobs, _ in batches] == [PLAN.of(0, iteration) for iteration in range(3)]
    seeds = [job.seed for jobs, _ in batches for job in jobs]  # type: ignore[attr-defined]
    assert len(set(seeds)) == 6
    assert not alike(batches[0][1], batches[1][1])
    assert not alike(batches[1][1], batches[2][1])
    # Before the first units the statistics have been set, and nothing else.
    changed = [name for name, value in first[1].items() if not np.array_equal(value, batches[0][1][name])]
    assert changed
    assert all(name.startswith("normalizer.") for name in changed)


def test_units_ahead_act_by_the_policy_before_the_update():
    backend = Recording()
    model = make_model(AHEAD, backend)
    for _ in range(3):
        step(model)
    _, *batches = backend.batches
    assert [jobs for jobs, _ in batches] == [AHEAD.of(0, iteration) for iteration in range(3)]
    assert alike(batches[0][1], batches[1][1])
    assert not alike(batches[1][1], batches[2][1])
    assert model.behaviour is None, "after the last iteration nothing is on its way"


@pytest.mark.parametrize("overlap", [False, True])
def test_every_rollout_is_learned_from(overlap):
    """The limit on the divergence is one of an update: what the update before moved must not use it up."""
    plan = RolloutPlan(units=2, slots=8, decisions=10, overlap=overlap)
    settings = {"batch_size": 40, "n_epochs": 6, "learning_rate": 1e-3, "target_kl": 0.03}
    model = make_model(plan, iterations=6, policy_kwargs={"log_std_init": -1.3}, **settings)
    counts = []
    for _ in range(6):
        before = [state["step"].item() for state in model.policy.optimizer.state.values()]
        step(model)
        after = [state["step"].item() for state in model.policy.optimizer.state.values()]
        counts.append(max(after) - max(before, default=0))
    assert min(counts) >= 4, f"gradient steps of each update: {counts}"


@pytest.mark.parametrize("plan", [PLAN, AHEAD])
def test_when_units_are_done_makes_no_difference(plan):
    weights = []
    for quick in (True, False):
        model = make_model(plan, Recording(quick))
        for _ in range(3):
            step(model)
        weights.append(model.weights())
    assert alike(*weights)


def test_settling_waits_for_what_is_on_its_way_and_changes_nothing():
    weights = []
    for settle in (True, False):
        backend = Recording()
        model = make_model(AHEAD, backend)
        for _ in range(3):
            step(model)
            if settle:
                model.settle()
                # The backend is free.
                backend.run([RolloutUnit(2, 3, 10)], model.weights())
        weights.append(model.weights())
    assert alike(*weights)


def test_the_learning_rate_falls_linearly_over_the_whole_training():
    model, rates = make_model(PLAN, iterations=4, learning_rate=lambda remaining: 0.01 * remaining), []
    for iteration in range(4):
        assert model.iteration == iteration
        step(model)
        rates.append(model.policy.optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, [0.01, 0.0075, 0.005, 0.0025])


def test_statistics_change_after_an_update_and_hold_what_was_seen():
    model = make_model(PLAN)
    step(model)
    sums = model.normalizer.get_buffer("run_sums")
    # The first look and the first rollout: sixty decisions each, of the same units.
    assert sums[0, 0] == 120
    before = model.normalizer.get_buffer("run_mean").clone()
    step(model)
    assert sums[0, 0] == 180
    assert not torch.equal(before, model.normalizer.get_buffer("run_mean"))


def test_the_first_gradient_step_starts_from_ratio_one():
    """The actions' probabilities by stable-baselines3 are those that units report: nothing is clipped at first."""
    model = make_model(PLAN, n_epochs=1, batch_size=60, learning_rate=0.0)
    step(model)
    logged = model.logger.name_to_value
    assert abs(logged["train/approx_kl"]) < 1e-9
    assert logged["train/clip_fraction"] == 0.0


def test_an_update_does_not_depend_on_what_was_drawn_before():
    weights = []
    for seed in (1, 2):
        model = make_model(PLAN)
        for _ in range(2):
            np.random.seed(seed)  # noqa: NPY002 - stable-baselines3 draws from it
            torch.manual_seed(seed)
            step(model)
        weights.append(model.weights())
    assert alike(*weights)


def test_episodes_returns_are_told():
    model = make_model(PLAN)
    step(model)
    rollout = Rollout.join(InProcess(SETTING).run(PLAN.of(0, 0), make_model_after_calibration().weights()))
    assert [each["r"] for each in model.ep_info_buffer or ()] == pytest.approx(rollout.returns.tolist())
    assert {each["l"] for each in model.ep_info_buffer or ()} == {10}


def make_model_after_calibration() -> SchedulePPO:
    """`make_model(PLAN)` as it was when it collected its first rollout."""
    model = make_model(PLAN)
    first = Rollout.join(InProcess(SETTING).run(PLAN.of(0, 0), model.weights()))
    model.normalizer.update(torch.as_tensor(first.observations.reshape(60, -1)))
    return model


def test_peers_are_trained_on_one_task():
    tasks = Recorded(TINY)
    plan = RolloutPlan(units=1, slots=4, decisions=10, repeats=4)
    step(make_model(plan, InProcess(Setting(tasks, PolicyInterface()))))
    assert len(tasks.built) == 2
    assert tasks.built[0] == tasks.built[1], "the first look and the first rollout are of the same unit"


def test_plans_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"slots must be a multiple of repeats \(3\), got 8"):
        RolloutPlan(slots=8, repeats=3)
    with pytest.raises(ValueError, match="units must be an integer >= 1, got 0"):
        RolloutPlan(units=0)
