"""One case: torch's schedules tuned, and the policy untuned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsched import Policy
from rlsched.envs.tasks import Task, UserConfig, UserFamily
from rlsched.experiments.plain_run import TORCH_SCHEDULES, RunResult, run_policy, run_schedule
from rlsched.experiments.real_cases.case import Case
from rlsched.experiments.real_cases.cases import CASES
from rlsched.experiments.real_cases.data import BATCH, STEPS
from rlsched.experiments.real_cases.fresh import FRESH
from rlsched.experiments.real_cases.held_back import HELD_BACK
from rlsched.scheduler import DEFAULT_DECISIONS

EVERY = (*CASES, *HELD_BACK, *FRESH)
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Base learning rates at which every schedule of torch is tried."""
TUNING, SEEDS = 0, (1, 2, 3)
"""The seed that selects the best of them, and those that report."""
DEFAULT = "linear at 1e-3"
"""What people use who do not tune."""
METHODS: dict[str, dict[str, Any]] = {
    "LR, from 1e-3": {"lr": 1e-3, "curriculum": False},
    "LR, from 1e-4": {"lr": 1e-4, "curriculum": False},
    "LR, from 3e-2": {"lr": 3e-2, "curriculum": False},
    "LR, validated": {"lr": 1e-3, "curriculum": False, "feedback": True},
    "curriculum": {"lr": 1e-3, "curriculum": True},
    "curriculum, validated": {"lr": 1e-3, "curriculum": True, "feedback": True},
}
"""How the policy is used; "validated" is told validation losses, and a curriculum comes with the learning rate."""
MOST = 3.0
"""Nats by which two losses can differ, at most: a run that failed is as bad as one of twenty times the loss."""


@dataclass(frozen=True)
class Found:
    """What came of a case.

    Attributes:
        tuned: schedule and learning rate that were the best of all, by validation loss.
        validation: losses by method, one for each of `SEEDS`, inf where a run failed; "tuned" and `DEFAULT` are
            among the methods.
        test: likewise.
    """

    tuned: tuple[str, float]
    validation: dict[str, list[float]]
    test: dict[str, list[float]]

    def log_ratio(self, method: str, part: str = "test") -> float:
        """Mean of ln(loss / that of the tuned run), within `MOST`; of `part` "test" or "validation"."""
        mine, tuned = (np.log(np.minimum(getattr(self, part)[name], 1e30)) for name in (method, "tuned"))
        return float(np.clip(mine - tuned, -MOST, MOST).mean())


def task_of(case: Case, seed: int) -> Task:
    """The task of `case` and `seed`, in four buckets by the losses of the run."""
    family = UserFamily(case.make)
    config = UserConfig(
        function=family.name,
        data_seed=seed,
        num_steps=STEPS,
        num_decisions=DEFAULT_DECISIONS,
        batch_size=BATCH,
        base_lr=1e-3,
        bucket_by="online",
    )
    return family.build(config)


def examine(name: str, policy: Policy) -> Found:
    """Tune torch's schedules on a case, then run the best of them and the policy from seeds of their own."""
    case = next(case for case in EVERY if case.name == name)
    task = task_of(case, TUNING)
    tried = {
        (schedule, lr): run_schedule(task.with_base_lr(lr), TUNING, schedule).validation_loss
        for schedule in TORCH_SCHEDULES
        for lr in RATES
    }
    schedule, lr = min(tried, key=lambda key: tried[key])
    runs: dict[str, list[RunResult]] = {method: [] for method in ("tuned", DEFAULT, *METHODS)}
    for seed in SEEDS:
        task = task_of(case, seed)
        runs["tuned"].append(run_schedule(task.with_base_lr(lr), seed, schedule))
        runs[DEFAULT].append(run_schedule(task.with_base_lr(1e-3), seed, "linear"))
        for method, how in METHODS.items():
            chosen = dict(how)
            base = task.with_base_lr(chosen.pop("lr"))
            runs[method].append(run_policy(base, seed, policy, **chosen))
    return Found(
        (schedule, lr),
        {method: [run.validation_loss for run in each] for method, each in runs.items()},
        {method: [run.test_loss for run in each] for method, each in runs.items()},
    )
