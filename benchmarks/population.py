"""Stacked training against the eager loop: `python -m benchmarks.population`.

Model-steps per second of a `Population` as a multiple of a `TorchRun`'s at the same work, telemetry included, and
the share of the machine's measured matrix-multiply rate that the population's own products reach. One thread.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from rlsched.envs import TorchRun
from rlsched.envs.population import Population
from rlsched.envs.tasks import Digits, DigitsConfig

WINDOW, ROUNDS = 20, 5


def config(row: int, optimizer: str, width: int, depth: int) -> DigitsConfig:
    """A digits task with a 64-input MLP and batches of 32."""
    return DigitsConfig(
        data_seed=row % 8,
        num_steps=10_000,
        num_decisions=20,
        batch_size=32,
        optimizer=optimizer,
        base_lr=0.01,
        width=width,
        depth=depth,
    )


def population(runs: int, optimizer: str, width: int, depth: int) -> Callable[[], None]:
    """A function that advances `runs` stacked runs by one window."""
    together = Population([Digits().build(config(row, optimizer, width, depth)) for row in range(runs)])
    together.reset(range(runs))
    n_steps, scale = np.full(runs, WINDOW), np.ones((runs, WINDOW))
    return lambda: void(together.advance(n_steps, scale, together.spec.bucket_shares))


def torch_run(optimizer: str, width: int, depth: int) -> Callable[[], None]:
    """A function that advances one eager run by one window."""
    run = TorchRun(Digits().build(config(0, optimizer, width, depth)))
    run.reset(0)
    return lambda: void(run.advance(WINDOW, np.ones(WINDOW), run.spec.bucket_shares[0]))


def matmul_rate() -> float:
    """FLOP/s of a 512 x 512 product, the best of a few."""
    a, b = torch.randn(512, 512), torch.randn(512, 512)
    return 2 * 512**3 / min(seconds(lambda: void(a @ b)) for _ in range(20))


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def void(_: object) -> None:
    """Nothing; for lambdas that return nothing."""


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for optimizer in ("sgd", "adam"):
        for width, depth in ((32, 2), (64, 1)):
            flops = 6 * 32 * (64 * width + (depth - 1) * width * width + width * 10)
            for runs in (16, 64, 256):
                stacked, eager = population(runs, optimizer, width, depth), torch_run(optimizer, width, depth)
                stacked(), eager()
                pairs = np.array([[seconds(eager), seconds(stacked)] for _ in range(ROUNDS)])
                before, after = np.median(pairs, axis=0) / WINDOW * 1e6 / (1, runs)
                rows.append(
                    {
                        "name": f"64-{'-'.join([str(width)] * depth)}-10 MLP, batch 32, {optimizer}, {runs} runs",
                        "value": after,
                        "unit": "us",
                        "baseline": before,
                        "ratio": before / after,
                        "share_of_matmul_rate": flops / (after * 1e-6) / matmul_rate(),
                    }
                )
    print(f"{'what':<50}{'us a step':>10}{'TorchRun':>10}{'faster':>8}{'of matmul rate':>16}")
    for row in rows:
        print("{name:<50}{value:>10.1f}{baseline:>10.0f}{ratio:>7.1f}x{share_of_matmul_rate:>15.0%}".format(**row))
    if len(sys.argv) == 3 and sys.argv[1] == "--json":
        Path(sys.argv[2]).write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
