"""The agent: parity of the exported policy, reproducible training, resuming after being killed."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlsched import Policy
from rlsched.action import ActionSpec
from rlsched.agents import BucketEquivariantPolicy, SchedulePPO, TrainConfig, export_policy, train
from rlsched.agents.evaluation import default_act, episode_returns, evaluation_seeds
from rlsched.agents.normalizer import Normalizer
from rlsched.envs import TrainingScheduleEnv
from rlsched.envs.tasks import Digits, DigitsConfig
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES, bounds

METRICS = Path(__file__).parents[1] / "docs" / "metrics.md"
TINY = TrainConfig(
    iterations=3, num_envs=2, minibatch=50, epochs=2, evaluate_every=2, evaluation_tasks=2,
)  # fmt: skip
SHORT = Digits(min_steps=60, max_steps=70, max_batch=32)


@pytest.fixture(scope="module")
def model() -> SchedulePPO:
    """An agent after a real iteration, so that its normaliser and weights are not the initial ones."""
    env = DummyVecEnv([lambda: TrainingScheduleEnv(Digits(min_steps=60, max_steps=70, max_batch=32))] * 2)
    agent = SchedulePPO(
        BucketEquivariantPolicy, env, n_steps=100, batch_size=50, n_epochs=2, learning_rate=0.01,
        policy_kwargs={"log_std_init": -1.0}, seed=0, device="cpu",
    )  # fmt: skip
    agent.learn(200)
    # Larger actions, so that the comparisons below see the clipping to [-1, 1] too.
    actor = agent.policy.mlp_extractor.actor
    with torch.no_grad():
        for name, parameter in actor.named_parameters():
            if name in ("lr_head.weight", "bucket_head.1.weight"):
                parameter.mul_(20.0)
    return agent


def test_the_exported_policy_is_the_agents(model, tmp_path):
    low, high = bounds(4)
    rng = np.random.default_rng(0)
    inside = rng.uniform(low, high, (500, len(low)))
    outside = rng.normal(0.0, 10.0 * np.abs(high), (500, len(low)))
    seen = np.concatenate([inside, outside]).astype(np.float32)
    expected, _ = model.predict(seen, deterministic=True)
    exported = Policy.load(export_policy(model, ActionSpec()).save(tmp_path / "policy.safetensors"))
    difference = np.abs(exported.act(seen) - expected)
    assert difference.max() <= 1e-5
    assert (np.abs(expected) == 1.0).any(), "clipping took part in the comparison"
    assert np.ptp(expected, axis=0).min() > 0.01, "the actions are no constants"


def test_the_agent_is_equivariant_over_buckets(model):
    rng, order = np.random.default_rng(0), [2, 0, 3, 1]
    low, high = bounds(4)
    seen = rng.uniform(low, high, (20, len(low))).astype(np.float32)
    runs, width = len(RUN_FEATURES), len(BUCKET_FEATURES)
    moved = seen.copy()
    moved[:, runs:] = seen[:, runs:].reshape(20, 4, width)[:, order].reshape(20, -1)
    one, other = (model.predict(each, deterministic=True)[0] for each in (seen, moved))
    np.testing.assert_allclose(one[:, 1:][:, order], other[:, 1:], atol=1e-5)
    np.testing.assert_allclose(one[:, 0], other[:, 0], atol=1e-5)
    values = [model.policy.predict_values(torch.as_tensor(each)).detach() for each in (seen, moved)]
    torch.testing.assert_close(*values, atol=1e-4, rtol=0)


def test_the_normalizer_is_numpys_mean_and_deviation():
    normalizer, rng = Normalizer(), np.random.default_rng(0)
    low, high = bounds(3)
    seen = rng.uniform(low, high, (400, len(low))).astype(np.float32)
    for quarter in np.split(seen, 4):
        normalizer.update(torch.as_tensor(quarter))
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


def weights(policy: Policy) -> bytes:
    return b"".join(policy.tensors[name].tobytes() for name in sorted(policy.tensors))


def test_training_is_reproducible_and_resumes_bit_exactly(tmp_path):
    whole = train(TINY, tmp_path / "whole", tasks=SHORT)
    assert weights(train(TINY, tmp_path / "again", tasks=SHORT)) == weights(whole)

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.iteration == 2:
            raise Stop

    with pytest.raises(Stop):
        train(TINY, tmp_path / "stopped", tasks=SHORT, report=stop)
    iterations = []
    resumed = train(
        TINY, tmp_path / "stopped", tasks=SHORT, resume=True,
        report=lambda progress: iterations.append(progress.iteration),
    )  # fmt: skip
    assert iterations == [2, 3]
    assert weights(resumed) == weights(whole)
    assert resumed.metadata.evaluation == whole.metadata.evaluation
    checkpoints = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "stopped")]
    for name, value in checkpoints[0]["policy"].items():
        assert torch.equal(value, checkpoints[1]["policy"][name]), name
    documented = re.findall(r"`((?:rollout|evaluation|train|time)/\w+)`", METRICS.read_text())
    logged = EventAccumulator(str(tmp_path / "whole" / "tensorboard")).Reload().Tags()["scalars"]
    assert set(documented) == set(logged)


def test_a_killed_training_resumes(tmp_path):
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "rlsched.experiments.cli", "train", "--out", str(out), "--iterations", "4",
        "--num-envs", "2", "--minibatch", "50", "--evaluation-tasks", "2", "--tasks", "quick",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.pt").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (out / "checkpoint.pt").exists()
    assert not (out / "policy.safetensors").exists(), "killed before the end"
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "pass --resume to continue it" in refused.stderr
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Policy.load(out / "policy.safetensors").metadata.training["iterations"] == 4


def test_resuming_is_refused_where_it_would_not_continue(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint to resume from"):
        train(TINY, tmp_path / "none", tasks=SHORT, resume=True)
    out = tmp_path / "run"
    train(dataclasses.replace(TINY, iterations=1), out, tasks=SHORT)
    with pytest.raises(ValueError, match=r"other settings of iterations \(was 1, now 3\), seed"):
        train(dataclasses.replace(TINY, seed=1), out, tasks=SHORT, resume=True)
    with pytest.raises(FileExistsError, match="holds a training run"):
        train(TINY, out, tasks=SHORT)
    (out / "checkpoint.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(ValueError, match=r"cannot resume from .*start afresh in another folder"):
        train(dataclasses.replace(TINY, iterations=1), out, tasks=SHORT, resume=True)


def test_training_and_evaluation_episodes_never_share_a_seed(tmp_path, monkeypatch):
    used: list[int] = []

    def recording(env, seeds):
        used.extend(seeds)
        env._seeds = list(seeds)

    monkeypatch.setattr("rlsched.agents.ppo._use_seeds", recording)
    train(TINY, tmp_path / "run", tasks=SHORT)
    # One seed for each iteration and environment, and the first iteration's once more for calibration.
    assert len(used) == (TINY.iterations + 1) * TINY.num_envs
    assert len(set(used)) == TINY.iterations * TINY.num_envs
    assert not set(used) & set(evaluation_seeds(TINY.seed, 1000))


@dataclass(frozen=True)
class TooLow(Digits):
    """Digits whose base learning rate is a hundred times too low: to be raised, there and nowhere else."""

    def sample(self, rng: np.random.Generator) -> DigitsConfig:
        config = super().sample(rng)
        return dataclasses.replace(config, base_lr=1e-4, optimizer="adam", label_noise=0.0, depth=1)


def test_ppo_learns_to_raise_a_learning_rate_that_is_too_low(tmp_path):
    config = TrainConfig(
        iterations=8, num_envs=4, minibatch=50, learning_rate=3e-3, evaluate_every=8, evaluation_tasks=6,
    )  # fmt: skip
    tasks = TooLow(min_steps=60, max_steps=70, max_batch=32)
    figures = train(config, tmp_path / "run", tasks=tasks).metadata.evaluation
    assert figures["policy"] > figures["linear_decay_after_warmup_same_base_lr"] + 0.1


def test_the_default_is_linear_decay_after_the_warmup():
    env, act = TrainingScheduleEnv(), default_act(4)
    over, scales = False, []
    observation, info = env.reset(seed=1)
    while not over:
        start = info["step"]
        observation, _, over, _, info = env.step(act(observation[None])[0])
        scales.append((start, info["lr_scale"]))
    steps = int(env.run.spec.num_steps[0])
    for start, scale in scales[2:]:
        assert scale == pytest.approx(1 - start / steps)
    assert episode_returns(act, env.tasks, [1, 3]).shape == (2,)


def test_config_names_the_field_that_is_wrong():
    for fields, words in (
        ({"iterations": 0}, "iterations must be an integer >= 1, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be a finite number"),
        ({"gae_lambda": 2.0}, "gae_lambda must be a finite number in"),
    ):
        with pytest.raises(ValueError, match=words):
            TrainConfig(**fields)


def test_config_and_action_are_stored_beside_the_policy(tmp_path):
    config = dataclasses.replace(TINY, iterations=1, action=ActionSpec(max_move=0.3))
    policy = train(config, tmp_path / "run", tasks=SHORT)
    assert policy.metadata.action.max_move == 0.3
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["action"]["max_move"] == 0.3
    assert policy.metadata.training["tasks"] == repr(SHORT)


def test_returns_are_those_of_the_single_environment():
    """Of episodes of different lengths, which are computed together."""

    class Gentle(Digits):
        def sample(self, rng: np.random.Generator) -> DigitsConfig:
            return dataclasses.replace(super().sample(rng), base_lr=0.002)

    tasks, seeds = Gentle(min_steps=60, max_steps=90, max_batch=32), [1, 3, 5, 7, 9]
    act = default_act(4)
    expected, lengths = [], set()
    for seed in seeds:
        env = TrainingScheduleEnv(tasks)
        observation, _ = env.reset(seed=seed)
        total, steps, over = 0.0, 0, False
        while not over:
            observation, reward, over, _, _ = env.step(act(observation[None])[0])
            total, steps = total + reward, steps + 1
        expected.append(total)
        lengths.add(steps)
    assert len(lengths) > 1
    np.testing.assert_allclose(episode_returns(act, tasks, seeds), expected, atol=2e-3)


def test_episodes_longer_than_a_rollout_are_refused(tmp_path):
    class Long(Digits):
        def sample(self, rng: np.random.Generator) -> DigitsConfig:
            return dataclasses.replace(super().sample(rng), num_steps=300, num_decisions=150)

    with pytest.raises(ValueError, match="num_decisions must be at most 100 in every task, got 150"):
        train(TINY, tmp_path / "run", tasks=Long())
