"""Memory of stacked training, measured in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from rlsched.benchmarks.rows import Row
from rlsched.envs.population import Population
from rlsched.envs.tasks import Digits, DigitsConfig
from rlsched.envs.vector import PopulationVecEnv
from rlsched.policy import PolicyInterface

LIMIT = 2000.0
"""MB."""


def rows(rounds: int = 1) -> list[Row]:
    """The table; nothing is timed, so `rounds` change nothing.

    Each figure is of a fresh process, since the peak of a process never falls.
    """
    largest, start, growth = (float(value) for name in ("largest", "growth") for value in _child(name))
    return [
        Row("peak memory: 256 runs of the largest MLP task", largest, "MB", LIMIT, largest / LIMIT),
        Row("growth over 10,000 environment steps", growth, "MB", start, growth / start),
    ]


def largest() -> None:
    """Print the peak of 256 runs of the largest task of `Digits`, after a window of the longest kind."""
    config = DigitsConfig(
        data_seed=0, num_steps=2000, num_decisions=10, batch_size=256, optimizer="adam", base_lr=0.001,
        num_features=64, num_examples=1000, width=128, depth=3,
    )  # fmt: skip
    tasks = [Digits().build(config) for _ in range(256)]
    population = Population(tasks)
    population.reset(range(256))
    # Blocks are computed one after another: it is enough that one of them goes through the whole window.
    n_steps = np.where(np.arange(256) < 64, 200, 1)
    population.advance(n_steps, np.ones((256, 200)), population.spec.bucket_shares)
    population.validation_loss()
    print(_peak())


def growth() -> None:
    """Print the memory when all buffers exist, after 12,000 environment steps, and the growth over 10,000 more."""
    env = PopulationVecEnv(Digits(min_steps=60, max_steps=120, max_batch=32), PolicyInterface(), 50, 50)
    env.seed(0)
    env.reset()
    levels = []
    for steps in (240, 200):
        for _ in range(steps):
            env.step(np.zeros((50, 5), np.float32))
        levels.append(_now())
    print(levels[0], levels[1] - levels[0])


def _child(name: str) -> list[str]:
    command = [sys.executable, "-m", "rlsched.benchmarks.memory", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def _peak() -> float:
    """MB."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1024 if sys.platform == "linux" else 1024**2)


def _now() -> float:
    """MB in use; where the system does not tell, the peak."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20 if statm.exists() else _peak()


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"largest": largest, "growth": growth}[sys.argv[1]]()
