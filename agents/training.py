"""Training a schedule policy: iterations of PPO, evaluation on fixed tasks, checkpoints, export."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import configure

from rlsched import _check
from rlsched._files import write_atomically
from rlsched.action import ActionSpec
from rlsched.agents.checkpoint import load_checkpoint, save_checkpoint
from rlsched.agents.evaluation import Act, default_act, episode_returns, evaluation_seeds
from rlsched.agents.export import export_policy
from rlsched.agents.network import BucketEquivariantPolicy
from rlsched.agents.ppo import SchedulePPO
from rlsched.contract import Array
from rlsched.envs.tasks import TaskFamily, quick
from rlsched.envs.vector import PopulationVecEnv
from rlsched.policy import Policy, PolicyInterface

ROLLOUT_STEPS = 100
"""Decisions per environment and iteration; a multiple of the episode lengths of `rlsched.envs.tasks`."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    Attributes:
        iterations: of PPO: a rollout and an update each.
        num_envs: training runs side by side; an iteration is 100 decisions of each.
        group_size: of these, how many are computed together, with equal numbers of steps and decisions.
        seed: of everything.
        learning_rate: of PPO's Adam, falling linearly to zero.
        epochs: passes over a rollout, ended early by target_kl.
        minibatch: decisions per gradient step.
        target_kl: largest divergence of an update.
        gae_lambda: of the advantage estimate; nothing is discounted.
        initial_log_std: of the exploration noise, in units of the action.
        evaluate_every: iterations between evaluations; the best policy evaluated is the one exported.
        evaluation_tasks: fixed tasks, never trained on, that select it.
        unstackable: what to do about tasks that a `Population` cannot stack: "refuse", or train by "eager" loops.
        action: how actions are decoded.
    """

    iterations: int = 100
    num_envs: int = 64
    group_size: int = 32
    seed: int = 0
    learning_rate: float = 2e-3
    epochs: int = 10
    minibatch: int = 400
    target_kl: float = 0.06
    gae_lambda: float = 0.8
    initial_log_std: float = -1.0
    evaluate_every: int = 10
    evaluation_tasks: int = 32
    unstackable: str = "refuse"
    action: ActionSpec = field(default_factory=ActionSpec)

    def __post_init__(self) -> None:
        for name, low in (
            ("iterations", 1),
            ("num_envs", 1),
            ("group_size", 1),
            ("seed", 0),
            ("epochs", 1),
            ("minibatch", 2),
            ("evaluate_every", 1),
            ("evaluation_tasks", 1),
        ):
            _check.integer(name, getattr(self, name), low)
        _check.real("learning_rate", self.learning_rate, 0.0, 1.0)
        _check.real("target_kl", self.target_kl, 1e-6)
        _check.real("gae_lambda", self.gae_lambda, 0.0, 1.0)
        _check.real("initial_log_std", self.initial_log_std, -10.0, 2.0)


@dataclass(frozen=True)
class Progress:
    """What is known after an iteration.

    Attributes:
        iteration: iterations done.
        mean_return: mean return of the episodes that ended in the last rollout, with exploration.
        gain: mean of return minus that of linear decay on the evaluation tasks, by the latest evaluation.
        best_gain: the highest gain so far.
    """

    iteration: int
    mean_return: float
    gain: float
    best_gain: float


def train(
    config: TrainConfig,
    out: Path,
    *,
    tasks: TaskFamily | None = None,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Policy:
    """Train a policy, and return the best one evaluated.

    `out` receives `config.json`, `checkpoint.pt` (after every iteration), `policy.safetensors` (whenever an
    evaluation is the best so far) and TensorBoard scalars in `tensorboard/`.

    Args:
        config: what to do.
        out: folder of the run.
        tasks: the distribution of training tasks; by default `rlsched.envs.tasks.quick()`, short runs of small
            MLPs, from which a policy is learned in minutes.
        resume: continue the run in `out` from its checkpoint; the result is the same as without the stop.
        report: called after every iteration, and once before the first if there is something to resume.

    Raises:
        FileExistsError: `out` holds a run and `resume` is False.
        FileNotFoundError: `resume` is True and `out` holds no checkpoint.
        ValueError: the run in `out` has another config, or its checkpoint is damaged.
    """
    out = Path(out)
    checkpoint, policy_file = out / "checkpoint.pt", out / "policy.safetensors"
    tasks = quick() if tasks is None else tasks
    _check_decisions(tasks)
    settings = _settings(config, tasks)
    _claim(out, settings, resume)
    torch.set_num_threads(1)  # the networks are tiny: more threads cost more than they bring
    interface = PolicyInterface(config.action)
    model = _make_model(config, tasks, interface)
    model.set_logger(configure(str(out / "tensorboard"), ["tensorboard"]))
    seeds = evaluation_seeds(config.seed, config.evaluation_tasks)

    def evaluate(act: Act) -> Array:
        return episode_returns(act, tasks, seeds, interface, config.unstackable)

    if resume:
        found = load_checkpoint(checkpoint, model)
        baseline, gain, best = found["baseline"].numpy(), found["gain"], found["best_gain"]
        report(Progress(model.iteration, _mean_return(model), gain, best))
    else:
        baseline = evaluate(default_act(tasks.num_buckets))
        gain = best = float("-inf")

    while model.iteration < config.iterations:
        model.learn(model.n_envs * model.n_steps, reset_num_timesteps=False)
        if model.iteration % config.evaluate_every == 0 or model.iteration == config.iterations:
            candidate = export_policy(model, config.action)
            returns = evaluate(candidate.act)
            gain = float((returns - baseline).mean())
            if gain > best:
                best = gain
                _export(model, config, settings, returns, baseline).save(policy_file)
        progress = Progress(model.iteration, _mean_return(model), gain, best)
        _log(model, progress)
        extra = {"baseline": torch.from_numpy(baseline), "gain": gain, "best_gain": best}
        save_checkpoint(checkpoint, model, extra)
        report(progress)
    return Policy.load(policy_file)


def _check_decisions(tasks: TaskFamily) -> None:
    """Refuse episodes that no rollout would hold; their ends would never be seen."""
    rng = np.random.default_rng(0)
    most = max(tasks.sample(rng).num_decisions for _ in range(100))
    if most > ROLLOUT_STEPS:
        raise _check.ArgumentError(
            f"num_decisions must be at most {ROLLOUT_STEPS} in every task, got {most}: an iteration holds no more."
        )


def _settings(config: TrainConfig, tasks: TaskFamily) -> dict[str, Any]:
    """What decides the result, in plain values."""
    return json.loads(json.dumps(dataclasses.asdict(config))) | {"tasks": repr(tasks)}


def _claim(out: Path, settings: dict[str, Any], resume: bool) -> None:
    """Refuse a folder that does not fit; write or compare `config.json`."""
    stored = out / "config.json"
    if not resume:
        if (out / "checkpoint.pt").exists():
            raise FileExistsError(f"{out} holds a training run: pass --resume to continue it, or another --out.")
        write_atomically(stored, json.dumps(settings, indent=2).encode())
        return
    if not (out / "checkpoint.pt").exists() or not stored.exists():
        raise FileNotFoundError(f"{out} holds no checkpoint to resume from: start without --resume.")
    try:
        before = dict(json.loads(stored.read_text()))
    except (ValueError, TypeError) as error:
        raise _check.ArgumentError(f"{stored} is damaged ({error}): start afresh in another folder.") from error
    if before != settings:
        names = before.keys() | settings.keys()
        changed = sorted(name for name in names if before.get(name) != settings.get(name))
        listed = ", ".join(f"{name} (was {before.get(name)}, now {settings.get(name)})" for name in changed)
        raise _check.ArgumentError(
            f"{out} holds a run with other settings of {listed}: resume it with those, or give another --out."
        )


def _make_model(config: TrainConfig, tasks: TaskFamily, interface: PolicyInterface) -> SchedulePPO:
    env = PopulationVecEnv(tasks, interface, config.num_envs, config.group_size, config.unstackable)
    model = SchedulePPO(
        BucketEquivariantPolicy,
        env,
        n_steps=ROLLOUT_STEPS,
        batch_size=config.minibatch,
        n_epochs=config.epochs,
        learning_rate=lambda remaining: config.learning_rate * remaining,
        gamma=1.0,
        gae_lambda=config.gae_lambda,
        target_kl=config.target_kl,
        policy_kwargs={"log_std_init": config.initial_log_std},
        seed=config.seed,
        device="cpu",
    )
    model.total_iterations = config.iterations
    return model


def _mean_return(model: SchedulePPO) -> float:
    episodes: Iterable[dict[str, float]] = model.ep_info_buffer or ()
    returns = [episode["r"] for episode in episodes]
    return float(np.mean(returns)) if returns else float("nan")


def _log(model: SchedulePPO, progress: Progress) -> None:
    """Write this iteration's `train/` scalars, which stable-baselines3 has recorded, and our own."""
    if np.isfinite(progress.gain):
        model.logger.record("evaluation/gain_over_linear", progress.gain)
    model.logger.dump(model.num_timesteps)


def _export(
    model: SchedulePPO, config: TrainConfig, settings: dict[str, Any], returns: Any, baseline: Any
) -> Policy:
    training = settings | {
        "decisions": model.num_timesteps,
        "torch": torch.__version__,
    }
    evaluation = {
        "what": "ln(initial / final validation loss) on tasks never trained on, which selected this policy",
        "tasks": len(returns),
        "policy": float(returns.mean()),
        "linear_decay_after_warmup_same_base_lr": float(baseline.mean()),
        "share_of_tasks_better": float((returns > baseline).mean()),
    }
    return export_policy(model, config.action, training=training, evaluation=evaluation)
