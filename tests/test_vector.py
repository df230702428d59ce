"""The vectorised environment: every slot plays the episodes of the single environment."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import ClipAction, DictInfoToList, RecordEpisodeStatistics
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor, VecNormalize

from rlsched.envs import TrainingScheduleEnv
from rlsched.envs.tasks import Digits, DigitsConfig, Mixture, Tabular, Teacher
from rlsched.envs.vector import Lockstep, PopulationVecEnv, PopulationVectorEnv
from rlsched.policy import PolicyInterface
from tests.families import Recorded, Touchy

SHORT = Digits(min_steps=60, max_steps=80, max_batch=32)


@dataclass(frozen=True)
class Gentle(Digits):
    """Learning rates short of chaos, so that two engines stay together to the end."""

    def sample(self, rng: np.random.Generator) -> DigitsConfig:
        return dataclasses.replace(super().sample(rng), base_lr=0.002)


@dataclass(frozen=True)
class Explosive(Digits):
    """Every other task diverges."""

    def sample(self, rng: np.random.Generator) -> DigitsConfig:
        config = super().sample(rng)
        base_lr = 1e38 if rng.random() < 0.5 else 0.01
        return dataclasses.replace(config, optimizer="sgd", base_lr=base_lr, num_decisions=12)


def vector(tasks=SHORT, num_envs=6, group_size=3, seed=0) -> PopulationVecEnv:
    env = PopulationVecEnv(tasks, PolicyInterface(), num_envs, group_size)
    env.seed(seed)
    return env


def actions(num_envs, steps, seed=0, scale=0.3):
    return np.random.default_rng(seed).uniform(-scale, scale, (steps, num_envs, 5)).astype(np.float32)


def play(env, chosen):
    """Observations, rewards, dones and infos of a rollout."""
    observations, rewards, dones, infos = [env.reset()], [], [], []
    for each in chosen:
        seen, reward, done, info = env.step(each)
        observations.append(seen)
        rewards.append(reward)
        dones.append(done)
        infos.append(info)
    return np.array(observations), np.array(rewards), np.array(dones), infos


def test_slots_play_the_episodes_of_the_single_environment():
    env = vector(Gentle(min_steps=60, max_steps=80, max_batch=32))
    env.reset()
    starts = list(env.reset_infos)
    env.seed(0)
    chosen = actions(6, 60)
    observations, rewards, dones, infos = play(env, chosen)
    for slot, begun in enumerate(starts):
        single = TrainingScheduleEnv(Gentle())
        seen, _ = single.reset(options={"task": begun["task"], "run_seed": begun["run_seed"]})
        np.testing.assert_allclose(observations[0, slot], seen, atol=2e-3)
        for step in range(60):
            seen, reward, terminated, _, info = single.step(chosen[step, slot])
            assert dones[step, slot] == terminated
            assert rewards[step, slot] == pytest.approx(reward, abs=2e-3)
            assert infos[step][slot]["step"] == info["step"]
            assert infos[step][slot]["lr_scale"] == pytest.approx(info["lr_scale"])
            if terminated:
                np.testing.assert_allclose(infos[step][slot]["terminal_observation"], seen, atol=5e-3)
                break
            np.testing.assert_allclose(observations[step + 1, slot], seen, atol=5e-3)
        assert terminated


def test_a_slot_draws_the_tasks_of_the_single_environment():
    env = vector()
    env.reset()
    for slot in range(6):
        config = TrainingScheduleEnv(SHORT).tasks.sample(seeding.np_random(slot)[0])
        first = env.reset_infos[slot // 3 * 3]["task"]
        assert env.reset_infos[slot]["task"] == SHORT.sample_like(seeding.np_random(slot)[0], first)
        if slot % 3 == 0:
            assert first == config


def test_equal_seeds_give_bit_equal_rollouts_and_others_do_not():
    chosen = actions(6, 25)
    one, again, other = (play(vector(seed=seed), chosen) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1], again[1])
    assert not np.array_equal(one[0], other[0])


def test_whole_episodes_fill_a_rollout_of_a_hundred_decisions():
    _, rewards, dones, infos = play(vector(), actions(6, 100))
    assert dones[-1].all()
    for slot in range(6):
        lengths = np.diff(np.concatenate([[-1], np.flatnonzero(dones[:, slot])]))
        assert lengths.sum() == 100
        for end, length in zip(np.flatnonzero(dones[:, slot]), lengths, strict=True):
            episode = infos[end][slot]["episode"]
            assert episode["l"] == length
            assert episode["r"] == pytest.approx(rewards[end - length + 1 : end + 1, slot].sum(), abs=1e-4)


def test_a_diverged_run_is_replaced_and_its_round_ends_with_the_others():
    env = vector(Explosive(min_steps=60, max_steps=80, max_batch=32), num_envs=8, group_size=8)
    observations, _, dones, infos = play(env, np.zeros((24, 8, 5), np.float32))
    assert np.isfinite(observations).all()
    assert dones[11].all()
    assert dones[23].all()
    diverged = [(step, slot) for step, slot in np.argwhere(dones) if step not in (11, 23)]
    assert len(diverged) > 3
    for step, slot in diverged:
        assert infos[step][slot]["episode"]["r"] == pytest.approx(-5.0, abs=1e-4)
        # What comes next is the start of another run.
        assert observations[step + 1, slot, 0] < 0.05 < infos[step][slot]["terminal_observation"][0] + 0.05
        assert not np.array_equal(observations[step + 1, slot], infos[step][slot]["terminal_observation"])


def test_healthy_slots_do_not_notice_a_diverging_one():
    core = Lockstep(Explosive(min_steps=60, max_steps=80, max_batch=32), PolicyInterface(), 4)
    core.reset([np.random.default_rng(seed) for seed in range(4)])
    for _ in range(12):
        transition = core.step(np.zeros((4, 5)))
        assert np.isfinite(transition.rewards).all()
        assert np.isfinite(transition.observations).all()


def test_what_slots_do_not_have_is_refused():
    env = vector()
    assert env.get_attr("render_mode") == [None] * 6
    assert env.env_is_wrapped(object) == [False] * 6
    with pytest.raises(AttributeError, match="the slots of a population have no attribute 'run' of their own"):
        env.get_attr("run")
    with pytest.raises(AttributeError, match="have no attribute 'x'"):
        env.set_attr("x", 1)
    with pytest.raises(AttributeError, match="have no method 'f'"):
        env.env_method("f")
    env.reset()
    with pytest.raises(ValueError, match=r"actions must be finite with shape \(6, 1 \+ K\), got \(5, 5\)"):
        env.step(np.zeros((5, 5)))
    with pytest.raises(ValueError, match="num_envs must be an integer >= 1, got 0"):
        PopulationVecEnv(SHORT, PolicyInterface(), 0)


def gymnasium_vector(tasks=SHORT, num_envs=4) -> PopulationVectorEnv:
    return PopulationVectorEnv(tasks, num_envs=num_envs, group_size=2)


def test_both_libraries_see_the_same_episodes():
    one, other = vector(num_envs=4, group_size=2), gymnasium_vector()
    chosen = actions(4, 60)
    observations, rewards, dones, infos = play(one, chosen)
    seen, begun = other.reset(seed=0)
    np.testing.assert_array_equal(seen, observations[0])
    assert begun["_task"].all()
    for step in range(60):
        seen, reward, terminated, truncated, info = other.step(chosen[step])
        np.testing.assert_array_equal(seen, observations[step + 1])
        np.testing.assert_allclose(reward, rewards[step], rtol=1e-6)
        np.testing.assert_array_equal(terminated, dones[step])
        assert not truncated.any()
        for slot in np.flatnonzero(terminated):
            np.testing.assert_array_equal(info["final_obs"][slot], infos[step][slot]["terminal_observation"])
            assert not infos[step][slot]["TimeLimit.truncated"]
        np.testing.assert_array_equal(info.get("_final_obs", np.zeros(4, bool)), terminated)


def test_the_gymnasium_vector_has_the_form_of_the_librarys_own():
    """Against `SyncVectorEnv` of single environments: spaces, types, shapes, infos and resets in the same step."""
    mine = gymnasium_vector(num_envs=2)
    reference = SyncVectorEnv([lambda: TrainingScheduleEnv(SHORT)] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    for name in (
        "single_observation_space",
        "single_action_space",
        "observation_space",
        "action_space",
        "num_envs",
    ):
        assert getattr(mine, name) == getattr(reference, name)
    assert mine.metadata["autoreset_mode"] is reference.metadata["autoreset_mode"]
    (seen, info), (their_seen, their_info) = mine.reset(seed=3), reference.reset(seed=3)
    assert (seen.dtype, seen.shape, info.keys()) == (their_seen.dtype, their_seen.shape, their_info.keys())
    forms: tuple[set[Any], set[Any]] = set(), set()
    for step in range(60):
        chosen = actions(2, 60)[step]
        results = mine.step(chosen), reference.step(chosen)
        assert mine.observation_space.contains(results[0][0])
        for ours, theirs in zip(results[0][:4], results[1][:4], strict=True):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        for (_, _, terminated, _, info), form in zip(results, forms, strict=True):
            form.add((bool(terminated.any()), tuple(sorted(info))))
    assert len(forms[0]) == 2
    assert forms[0] == forms[1]


def test_the_wrappers_of_both_libraries_work():
    wrapped = DictInfoToList(RecordEpisodeStatistics(ClipAction(gymnasium_vector())))
    wrapped.reset(seed=0)
    for chosen in actions(4, 60):
        info = wrapped.step(chosen)[4]
    lengths = [each["episode"]["l"] for each in info if "episode" in each]
    assert set(lengths) <= {10, 20}
    assert lengths
    env = VecCheckNan(VecMonitor(VecNormalize(vector(num_envs=4, group_size=2))), raise_exception=True)
    model = PPO("MlpPolicy", env, n_steps=25, batch_size=50, n_epochs=1, device="cpu", seed=0)
    model.learn(200)
    assert len(model.ep_info_buffer or ()) > 0


def test_a_gymnasium_vector_refuses_what_it_cannot_do():
    env = gymnasium_vector()
    with pytest.raises(ValueError, match=r"options must be empty, got \['task'\]"):
        env.reset(options={"task": 1})
    with pytest.raises(ValueError, match="seed must be an integer or 4 of them, got 3"):
        env.reset(seed=[1, 2, 3])


def test_the_gymnasium_vector_is_registered():
    env = gymnasium.make_vec("rlsched/TrainingSchedule-v0", num_envs=3, vectorization_mode="vector_entry_point")
    assert isinstance(env.unwrapped, PopulationVectorEnv)
    assert env.reset(seed=0)[0].shape == (3, 50)


def test_a_reset_in_the_middle_of_an_episode_forgets_it():
    env = vector(num_envs=2, group_size=2)
    play(env, actions(2, 5))
    env.seed(1)
    _, rewards, dones, infos = play(env, actions(2, 60))
    end = int(np.flatnonzero(dones[:, 0])[0])
    assert infos[end][0]["episode"]["l"] == end + 1
    assert infos[end][0]["episode"]["r"] == pytest.approx(rewards[: end + 1, 0].sum(), abs=1e-4)


def test_runs_that_are_over_are_not_kept():
    core = Lockstep(Explosive(min_steps=60, max_steps=80, max_batch=32), PolicyInterface(), 6)
    core.reset([np.random.default_rng(seed) for seed in range(6)])
    for _ in range(8):
        core.step(np.zeros((6, 5)))
        assert len(core._cohorts) <= 6


def test_a_vector_is_reset_before_it_is_stepped():
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        gymnasium_vector().step(np.zeros((4, 5)))
    seed: Any = np.int64(3)
    assert gymnasium_vector().reset(seed=seed)[0].shape == (4, 50)


def test_the_first_slot_plays_the_first_task_of_a_mixture_too():
    tasks = Mixture([Teacher(max_batch=32), Tabular(max_batch=32)])
    for seed in range(8):
        first = tasks.sample(np.random.default_rng(seed))
        assert tasks.sample_like(np.random.default_rng(seed), first) == first


def rngs(count, first=0):
    return [np.random.default_rng(first + seed) for seed in range(count)]


def test_repeated_slots_are_those_of_a_vector_without_repeats():
    """Slot g G plays what slot g plays alone, over rounds; with the same actions, so do its peers."""
    tasks, chosen = Gentle(min_steps=60, max_steps=80, max_batch=32), actions(2, 45)
    plain, repeated = Lockstep(tasks, PolicyInterface(), 2), Lockstep(tasks, PolicyInterface(), 6, repeats=3)
    seen, infos = plain.reset(rngs(2))
    again, their_infos = repeated.reset(rngs(2))
    assert not plain.has_peers.any()
    rounds = 0
    for step in range(45):
        np.testing.assert_allclose(again, np.repeat(seen, 3, axis=0), atol=2e-3)
        moved, theirs = plain.step(chosen[step]), repeated.step(np.repeat(chosen[step], 3, axis=0))
        np.testing.assert_array_equal(theirs.terminated, np.repeat(moved.terminated, 3))
        np.testing.assert_allclose(theirs.rewards, np.repeat(moved.rewards, 3), atol=2e-3)
        rounds += int(moved.terminated.all())
        assert repeated.has_peers.all()
        infos, their_infos = moved.reset_infos, theirs.reset_infos
        assert [info.get("task") for info in their_infos] == [info.get("task") for info in infos for _ in range(3)]
        assert [info.get("run_seed") for info in their_infos] == [
            info.get("run_seed") for info in infos for _ in range(3)
        ]
        seen, again = moved.observations, theirs.observations
    assert rounds > 1


def test_peers_part_by_their_actions_alone():
    core = Lockstep(Gentle(min_steps=60, max_steps=80, max_batch=32), PolicyInterface(), 4, repeats=2)
    seen, _ = core.reset(rngs(2))
    np.testing.assert_array_equal(seen[::2], seen[1::2])
    chosen = actions(4, 8)
    chosen[:, 1] = chosen[:, 0]
    for each in chosen:
        seen = core.step(each).observations
    np.testing.assert_array_equal(seen[0], seen[1])
    assert not np.allclose(seen[2], seen[3])


def test_a_diverged_run_loses_its_peers_and_all_slots_begin_the_next_round_together():
    core = Lockstep(Touchy(), PolicyInterface(), 6, repeats=3)
    _, infos = core.reset(rngs(2))
    begun = [infos]
    up, down = np.zeros(5), np.zeros(5)
    up[0], down[0] = 1.0, -1.0
    for step in range(10):
        peers = core.has_peers.copy()
        moved = core.step(np.array([down, up, down, down, down, down]))
        if step < 9:
            assert not moved.terminated[[0, 2, 3, 4, 5]].any()
            assert peers[[0, 2, 3, 4, 5]].all()
            # From the moment at which slot 1 diverges its run is another one.
            assert moved.terminated[1] <= (not core.has_peers[1])
            assert core.has_peers[1] <= peers[1]
    assert not peers[1]
    assert moved.terminated.all()
    assert core.has_peers.all()
    begun.append(moved.reset_infos)
    for infos in begun:
        drawn = [(info["task"], info["run_seed"]) for info in infos]
        assert drawn[0] == drawn[1] == drawn[2]
        assert drawn[3] == drawn[4] == drawn[5]
        assert drawn[0] != drawn[3]
    assert begun[0][0]["task"] != begun[1][0]["task"]
    np.testing.assert_array_equal(moved.observations[0], moved.observations[1])


def test_a_step_that_is_the_last_one_begins_nothing():
    tasks = Recorded(Explosive(min_steps=60, max_steps=80, max_batch=32))
    renewing, last = (Lockstep(tasks, PolicyInterface(), 8) for _ in range(2))
    for core in (renewing, last):
        core.reset(rngs(8))
    built = len(tasks.built)
    moved = last.step(np.zeros((8, 5)), renew=False)
    assert len(tasks.built) == built
    assert moved.terminated.any()
    assert not any(moved.reset_infos)
    np.testing.assert_array_equal(moved.observations, moved.final)
    renewed = renewing.step(np.zeros((8, 5)))
    assert len(tasks.built) == built + moved.terminated.sum()
    for name in ("rewards", "terminated", "final"):
        np.testing.assert_array_equal(getattr(renewed, name), getattr(moved, name))
    np.testing.assert_array_equal(renewed.observations[~moved.terminated], moved.final[~moved.terminated])
    assert (renewed.observations[moved.terminated] != moved.final[moved.terminated]).any(axis=1).all()
