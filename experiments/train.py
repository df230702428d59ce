"""`rlsched train`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from rlsched.agents import Progress, TrainConfig, train
from rlsched.policy import Policy


def main(
    out: Path,
    config: Annotated[TrainConfig, tyro.conf.arg(name="")],
    resume: bool = False,
) -> None:
    """Learn a schedule policy by PPO and export it.

    Args:
        out: folder of the run: checkpoint, policy file, TensorBoard scalars.
        config: settings.
        resume: continue the run in that folder after it was stopped.
    """
    train_with_bar(config, out, resume=resume)
    policy = out / "policy.safetensors"
    print(
        f"\nThe best policy evaluated is in {policy}. Next:\n"
        f"  rlsched inspect {policy}\n"
        f"  tensorboard --logdir {out / 'tensorboard'}\n"
        f'  scheduler = rlsched.RLScheduler(optimizer, num_steps=..., policy="{policy}")'
    )


def train_with_bar(config: TrainConfig, out: Path, *, resume: bool = False) -> Policy:
    """`agents.train` behind a progress bar with the score and the time left."""
    with tqdm(total=config.iterations, desc="training", unit="iteration", dynamic_ncols=True) as bar:

        def report(progress: Progress) -> None:
            shown = {}
            if math.isfinite(progress.mean_return):
                shown["return"] = f"{progress.mean_return:.2f}"
            if math.isfinite(progress.gain):
                shown |= {"over linear": f"{progress.gain:+.2f}", "best": f"{progress.best_gain:+.2f}"}
            bar.set_postfix(shown, refresh=False)
            bar.update(progress.iteration - bar.n)

        return train(config, out, resume=resume, report=report)
