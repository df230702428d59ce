"""What scheduling costs in a user's training loop."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from rlsched import Linear, PolicyController, RLScheduler
from rlsched.action import ActionSpec
from rlsched.agents.export import export_policy
from rlsched.agents.ppo import RolloutPlan, SchedulePPO
from rlsched.agents.rollouts import InProcess, Setting
from rlsched.benchmarks.rows import Row, in_turns
from rlsched.contract import Controller
from rlsched.envs.tasks import Digits
from rlsched.policy import Policy, PolicyInterface

STEPS, ROUNDS = 200, 7
LONG = 2000


def loop(width: int, controller: Controller | None) -> Callable[[], None]:
    """A training loop of `STEPS` steps on an MLP, scheduled by torch's LinearLR or by `controller`."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, width, generator=generator), torch.randint(10, (64,), generator=generator)

    def run() -> None:
        model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        ours = (
            None
            if controller is None
            else RLScheduler(optimizer, STEPS, controller=controller, on_event=lambda event: None)
        )
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


def rows(rounds: int = ROUNDS) -> list[Row]:
    """The table, everything timed `rounds` times."""
    policy = _policy()
    result = []
    for width in (64, 1024):
        for name, controller in (("Linear", Linear()), ("policy", PolicyController(policy))):
            before, after = in_turns(loop(width, None), loop(width, controller), rounds)
            what = (
                f"training step with torch's schedule (baseline) and RLScheduler, {width}-{width}-10 MLP, {name}"
            )
            result.append(Row(what, after / STEPS * 1e6, "us", before / STEPS * 1e6, before / after))
    return [*result, *_limits(policy, rounds)]


def _limits(policy: Policy, rounds: int) -> list[Row]:
    """What a policy adds to each step of a run of `LONG` steps on a model of a million parameters."""
    inside = np.zeros(LONG)
    parameters = [nn.Parameter(torch.zeros(1000, 1000))]
    parameters[0].grad = torch.ones(1000, 1000)

    def steps(scheduled: bool) -> Callable[[], None]:
        def run() -> None:
            optimizer = torch.optim.SGD(parameters, lr=1e-9)
            scheduler = RLScheduler(optimizer, LONG, policy, on_event=lambda event: None) if scheduled else None
            loss = torch.ones(())
            for step in range(LONG):
                optimizer.step()
                if scheduler is not None:
                    start = time.perf_counter()
                    scheduler.step(loss)
                    inside[step] = time.perf_counter() - start

        return run

    before, after = in_turns(steps(False), steps(True), rounds)
    added, usual = (after - before) / LONG * 1e6, float(np.median(inside)) * 1e6
    return [
        Row("scheduler.step at a step that is no decision, against 20 us", usual, "us", 20.0, 20.0 / usual),
        Row(
            "added to each step, samples and decisions included, against 0.4 % of 10 ms",
            added,
            "us",
            40.0,
            40.0 / added,
        ),
    ]


def _policy() -> Policy:
    backend = InProcess(Setting(Digits(), PolicyInterface()))
    agent = SchedulePPO(backend, RolloutPlan(units=1, slots=1), num_buckets=4, iterations=1, batch_size=100)
    return export_policy(agent.policy, ActionSpec())
