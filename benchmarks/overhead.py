"""What scheduling costs: `python -m benchmarks.overhead`.

Each row times two variants of the same work in turns, so that a busy moment of the machine hits both, and
reports the ratio of their medians.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rlsched import Linear, PolicyController, RLScheduler
from rlsched.action import ActionSpec
from rlsched.agents.export import export_policy
from rlsched.agents.network import BucketEquivariantPolicy
from rlsched.agents.ppo import SchedulePPO
from rlsched.contract import Controller
from rlsched.envs import TrainingScheduleEnv
from rlsched.policy import Policy

STEPS, ROUNDS = 200, 9


def loop(width: int, controller: Controller | None) -> Callable[[], None]:
    """A training loop of `STEPS` steps on an MLP, scheduled by torch's LinearLR or by `controller`."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, width, generator=generator), torch.randint(10, (64,), generator=generator)

    def run() -> None:
        model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        ours = None if controller is None else RLScheduler(optimizer, STEPS, controller=controller)
        torchs = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS) if ours is None else None
        for _ in range(STEPS):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if ours is not None:
                ours.step(loss)
            elif torchs is not None:
                torchs.step()

    return run


def compare(baseline: Callable[[], None], variant: Callable[[], None]) -> tuple[float, float]:
    """Median seconds of both, run in turns after a warm-up."""
    baseline(), variant()
    times = np.array([[_seconds(baseline), _seconds(variant)] for _ in range(ROUNDS)])
    return float(np.median(times[:, 0])), float(np.median(times[:, 1]))


def own_share(episodes: int = 30) -> float:
    """Share of the environment's time that is not the inner training."""
    env, zero, inner = TrainingScheduleEnv(), np.zeros(5, np.float32), 0.0
    env.reset(seed=0)  # loads the data
    start = time.perf_counter()
    for seed in range(episodes):
        env.reset(seed=seed)
        advance = env.run.advance

        def timed(*arguments, advance=advance):  # type: ignore[no-untyped-def]
            nonlocal inner
            began = time.perf_counter()
            try:
                return advance(*arguments)
            finally:
                inner += time.perf_counter() - began

        env.run.advance = timed  # type: ignore[method-assign]
        over = False
        while not over:
            over = env.step(zero)[2]
    return 1.0 - inner / (time.perf_counter() - start)


def main() -> None:
    torch.set_num_threads(1)
    policy = _policy()
    rows = []
    for width in (64, 1024):
        for name, controller in (("Linear", Linear()), ("policy", PolicyController(policy))):
            before, after = compare(loop(width, None), loop(width, controller))
            rows.append(
                {
                    "name": f"training step, {width}-{width}-10 MLP, RLScheduler with {name}",
                    "value": after / STEPS * 1e6,
                    "unit": "us",
                    "baseline": before / STEPS * 1e6,
                    "ratio": after / before,
                }
            )
    share = own_share()
    rows.append(
        {"name": "environment, all but inner training", "value": share, "unit": "of time", "baseline": 1.0,
         "ratio": share}
    )  # fmt: skip
    print(f"{'what':<66}{'value':>9}  {'unit':<8}{'baseline':>9}{'ratio':>8}")
    for row in rows:
        print("{name:<66}{value:>9.3g}  {unit:<8}{baseline:>9.3g}{ratio:>8.3f}".format(**row))
    if len(sys.argv) == 3 and sys.argv[1] == "--json":
        Path(sys.argv[2]).write_text(json.dumps(rows, indent=2))


def _policy() -> Policy:
    from stable_baselines3.common.vec_env import DummyVecEnv

    agent = SchedulePPO(
        BucketEquivariantPolicy, DummyVecEnv([TrainingScheduleEnv]), n_steps=60, batch_size=60, device="cpu"
    )
    return export_policy(agent, ActionSpec())


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
