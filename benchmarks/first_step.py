"""What one first step at a misjudged learning rate does to a run: `python -m rlsched.benchmarks.first_step`.

A 32-unit MLP on digits takes its first step at a multiple of a good learning rate, and all others by linear
decay from the good one. This is the measurement behind the warm-up in `rlsched.action.ActionSpec`.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from rlsched.envs import TorchRun
from rlsched.envs.tasks import Digits, DigitsConfig

STEPS, SEEDS = 200, 5
GOOD_LR = {"sgd": 0.05, "adam": 0.01}


def log_validation_loss(optimizer: str, factor: float, seed: int) -> float:
    """ln(validation loss) after a run whose first step was `factor` times too long."""
    config = DigitsConfig(
        data_seed=seed,
        num_steps=STEPS,
        num_decisions=10,
        batch_size=32,
        optimizer=optimizer,
        base_lr=GOOD_LR[optimizer],
        num_examples=1000,
    )
    run = TorchRun(Digits().build(config), reads=frozenset())
    run.reset(seed)
    scale = 1.0 - np.arange(STEPS) / STEPS
    scale[0] = factor
    run.advance(STEPS, scale, run.spec.bucket_shares[0])
    return math.log(run.validation_loss())


def main() -> None:
    torch.set_num_threads(1)
    factors = (1, 3, 10, 30, 100)
    print(f"final ln(validation loss), mean of {SEEDS} seeds, by the length of the first step")
    print("optimizer" + "".join(f"{factor:>8}x" for factor in factors))
    for optimizer in GOOD_LR:
        means = [np.mean([log_validation_loss(optimizer, factor, s) for s in range(SEEDS)]) for factor in factors]
        print(f"{optimizer:<9}" + "".join(f"{mean:>9.2f}" for mean in means))


if __name__ == "__main__":
    main()
