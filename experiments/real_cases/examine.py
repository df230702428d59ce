"""One case: torch's schedules tuned, and the policy untuned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rlsched import Policy
from rlsched.experiments.plain_run import TORCH_SCHEDULES
from rlsched.experiments.real_cases.cases import CASES
from rlsched.experiments.real_cases.runs import run

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Base learning rates at which every schedule of torch is tried."""
TUNING, SEEDS = 0, (1, 2, 3)
"""The seed that selects the best of them, and those that report."""
DEFAULT = "linear at 1e-3"
"""What people use who do not tune."""
METHODS: dict[str, dict[str, Any]] = {
    "LR, from 1e-3": {"lr": 1e-3},
    "LR, from 1e-4": {"lr": 1e-4},
    "LR, from 3e-2": {"lr": 3e-2},
    "LR, validated": {"lr": 1e-3, "feedback": True},
    "curriculum": {"lr": 1e-3, "curriculum": True},
    "curriculum, validated": {"lr": 1e-3, "curriculum": True, "feedback": True},
}
"""How the policy is used; "validated" is told validation losses, and a curriculum comes with the learning rate."""


@dataclass(frozen=True)
class Found:
    """What came of a case.

    Attributes:
        tuned: schedule and learning rate that were the best of all, by validation loss.
        losses: test losses by method, one for each of `SEEDS`; "tuned" and `DEFAULT` are among them.
    """

    tuned: tuple[str, float]
    losses: dict[str, list[float]]

    def log_ratio(self, method: str) -> float:
        """Mean of ln(test loss / that of the tuned run)."""
        mine, tuned = (np.log(np.clip(self.losses[name], 1e-12, 1e12)) for name in (method, "tuned"))
        return float((mine - tuned).mean())


def examine(name: str, policy: Policy) -> Found:
    """Tune torch's schedules on a case, then run the best of them and the policy from seeds of their own."""
    torch.set_num_threads(1)
    case = next(case for case in CASES if case.name == name)
    problem = case.make(TUNING)
    validation = {
        (schedule, lr): run(problem, TUNING, lr, schedule=schedule)[0]
        for schedule in TORCH_SCHEDULES
        for lr in RATES
    }
    best = min(validation, key=lambda key: np.nan_to_num(validation[key], nan=np.inf))
    losses: dict[str, list[float]] = {method: [] for method in ("tuned", DEFAULT, *METHODS)}
    for seed in SEEDS:
        problem = case.make(seed)
        losses["tuned"].append(run(problem, seed, best[1], schedule=best[0])[1])
        losses[DEFAULT].append(run(problem, seed, 1e-3, schedule="linear")[1])
        for method, how in METHODS.items():
            losses[method].append(run(problem, seed, policy=policy, **how)[1])
    return Found(best, losses)
