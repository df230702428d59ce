"""`rlsched train`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import tyro

from rlsched import _check
from rlsched.action import ActionSpec
from rlsched.agents import (
    EvaluationSettings,
    NetworkSettings,
    PPOSettings,
    RolloutPlan,
    TaskSettings,
    TrainConfig,
    WarmStart,
    train,
)
from rlsched.agents.rollouts import Backend, InProcess, Setting
from rlsched.envs.tasks import TaskFamily
from rlsched.experiments.backend import DEADLINE, choose_backend
from rlsched.experiments.bar import TrainingBar
from rlsched.experiments.base_config import base_config
from rlsched.experiments.pictures import draw_pictures
from rlsched.experiments.task_family import how_computed, task_family
from rlsched.policy import Policy

_Flag = tyro.conf.FlagCreatePairsOff


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """`main`, with the settings that `arguments` start from as its defaults."""
    base = base_config(arguments)
    parts = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    return functools.partial(main, **parts)


def main(
    out: Path,
    preset: str = "default",
    config: Path | None = None,
    resume: Annotated[bool, _Flag] = False,
    workers: int = 0,
    ray_address: str | None = None,
    gpus_per_worker: float = 1.0,
    job_deadline: float = DEADLINE,
    device: str = "cpu",
    pictures: bool = True,
    *,
    seed: int,
    tasks: TaskSettings,
    warm_start: WarmStart,
    rollouts: RolloutPlan,
    ppo: Annotated[PPOSettings, tyro.conf.arg(name="")],
    evaluation: EvaluationSettings,
    action: ActionSpec,
    network: NetworkSettings,
) -> None:
    """Learn a schedule policy and export it.

    Settings come from the preset, then the config file, then the flags below, whose defaults are those of preset
    and file. See docs/training.md.

    Args:
        out: folder of the run: checkpoint, policy file, TensorBoard scalars, pictures.
        preset: settings to start from: "quick", "default" or "lr-only".
        config: file of settings, TOML or JSON, such as the config.json of another run.
        resume: continue the run in that folder after it was stopped, with its own settings.
        workers: processes that train tasks, by Ray; 0 for this process alone.
        ray_address: of the cluster: "host:port", "auto" for the one of this machine, "local" for a new one; by
            default what RAY_ADDRESS says, else "local".
        gpus_per_worker: GPUs, or parts of one, set aside for each worker if the device is "cuda".
        job_deadline: seconds after which the worker of a job counts as hung, and the job is done again elsewhere.
        device: where training runs are computed side by side: "cpu" or "cuda".
        pictures: whether to draw pictures at the end.
        seed: of everything.
        tasks: which tasks it is trained on.
        warm_start: imitation of tuned schedules, before PPO.
        rollouts: what PPO collects in an iteration.
        ppo: how it learns from that.
        evaluation: the tasks that select the policy.
        action: how actions are decoded.
        network: how large the policy is.
    """
    settings = TrainConfig(seed, tasks, warm_start, rollouts, ppo, evaluation, action, network)
    _check_device(device, workers)
    backend = choose_backend(workers, ray_address, gpus_per_worker if device == "cuda" else 0.0, job_deadline)
    family = task_family(tasks)
    if tasks.function:
        print(how_computed(family, tasks.unstackable))
    learned = train_with_bar(settings, out, tasks=family, backend=backend, device=device, resume=resume)
    policy = out / "policy.safetensors"
    print(f"\nThe best policy evaluated is in {policy}.")
    for picture in draw_pictures(learned, settings, family, out) if pictures else []:
        print(f"Picture: {picture}")
    print(
        "Next:\n"
        f"  rlsched inspect {policy}\n"
        f"  tensorboard --logdir {out / 'tensorboard'}\n"
        f'  scheduler = rlsched.RLScheduler(optimizer, num_steps=..., policy="{policy}")'
    )


def train_with_bar(
    config: TrainConfig,
    out: Path,
    *,
    tasks: TaskFamily | None = None,
    backend: Callable[[Setting], Backend] = InProcess,
    device: str = "cpu",
    resume: bool = False,
) -> Policy:
    """`agents.train` behind a progress bar; on the tasks that `config` names, unless `tasks` are given."""
    family = task_family(config.tasks) if tasks is None else tasks
    with TrainingBar() as bar:
        return train(config, out, tasks=family, backend=backend, device=device, resume=resume, report=bar)


def _check_device(device: str, workers: int) -> None:
    _check.choice("device", device, ("cpu", "cuda"))
    # Workers may be on other machines: they find out for themselves.
    if device == "cuda" and not workers and not torch.cuda.is_available():
        raise _check.ArgumentError(
            f"device must be cpu here, got 'cuda': torch {torch.__version__} finds no GPU. Check "
            "`nvidia-smi`, and that torch was installed with CUDA."
        )
