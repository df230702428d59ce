"""What one decision of each controller costs, for many runs side by side. One thread."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import numpy as np

import rlsched.controllers
from rlsched import Constant, Cosine, Linear, Policy
from rlsched.benchmarks.rows import Row, seconds
from rlsched.contract import Controller, RunSpec, Window
from rlsched.controllers import curricula

RUNS, BUCKETS = 256, 4
STEPS, DECISIONS = 1000, 20
"""Of every run: the window that is timed is 67 steps long."""
ROUNDS = 50
LIMIT = 1000.0
"""Microseconds."""

ARGUMENTS: dict[str, Any] = {
    "controller": Linear(),
    "curriculum": curricula(BUCKETS)[-1],
    "end": 0.1,
    "num_samples": 20,
    "schedule": Cosine(),
    "start": 1.0,
    "tokens": Constant(),
    "values": np.linspace(1.0, 0.0, STEPS),
}
"""Argument without a default -> a usual value; a policy is the one that comes with rlsched."""


def controllers() -> list[Controller]:
    """One of every class of controllers in `rlsched.controllers`, with its usual settings, by name."""
    found = {}
    for module in pkgutil.walk_packages(rlsched.controllers.__path__, "rlsched.controllers."):
        for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            own = kind.__module__ == module.name and not name.startswith("_")
            if own and all(hasattr(kind, part) for part in ("init", "decide", "reads")) and not _is_base(kind):
                found[name] = kind
    return [usual(found[name]) for name in sorted(found)]


def usual(kind: type) -> Controller:
    """A controller of `kind`, from its defaults and `ARGUMENTS`."""
    needed = [name for name, one in inspect.signature(kind).parameters.items() if one.default is one.empty]
    unknown = sorted(set(needed) - set(ARGUMENTS) - {"policy"})
    if unknown:
        raise ValueError(f"{kind.__name__} needs {', '.join(unknown)}: add an example of it to ARGUMENTS.")
    given = {name: Policy.default() if name == "policy" else ARGUMENTS[name] for name in needed}
    made: Controller = kind(**given)
    return made


def _is_base(kind: type) -> bool:
    """Whether it leaves a method to subclasses."""
    methods = inspect.getmembers(kind, inspect.isfunction)
    return inspect.isabstract(kind) or any(
        "NotImplementedError" in method.__code__.co_names for _, method in methods
    )


def windows(spec: RunSpec) -> list[Window]:
    """The opening, and the windows after each decision of runs that learn, everything measured."""
    rng, runs = np.random.default_rng(0), spec.num_runs
    found = [Window.opening(spec)]
    for index in range(1, DECISIONS + 1):
        decision = np.full(runs, index)
        loss = np.exp(rng.normal(-0.1 * index, 0.1, runs))
        found.append(
            Window.opening(spec).replace(
                decision=decision,
                step=spec.boundary(decision),
                loss=loss,
                loss_slope=rng.normal(-0.1, 0.1, runs),
                loss_noise=rng.uniform(0.0, 0.3, runs),
                grad_norm=np.exp(rng.normal(0.0, 0.5, runs)),
                grad_spread=rng.uniform(0.0, 0.5, runs),
                update_ratio=np.exp(rng.normal(-5.0, 0.5, runs)),
                grad_agreement=rng.uniform(-0.2, 0.6, runs),
                bucket_loss=loss[:, None] * rng.uniform(0.5, 1.5, (runs, BUCKETS)),
                validation_loss=1.1 * loss,
                group_alpha=rng.uniform(2.0, 6.0, spec.base_lr.shape),
                group_rotation=rng.uniform(0.0, 0.1, spec.base_lr.shape),
            )
        )
    return found


def spec() -> RunSpec:
    """`RUNS` runs of SGD with a curriculum and three parameter groups, whose base learning rates differ."""
    rates = np.geomspace(1e-3, 1.0, RUNS)
    shares = np.full(BUCKETS, 1.0 / BUCKETS)
    one = [
        RunSpec.single(
            STEPS, DECISIONS, [rate, rate, 0.1 * rate], adaptive=False, batch_size=32, bucket_shares=shares,
            bucket_difficulty=np.linspace(0.0, 1.0, BUCKETS), group_rates=True,
        )
        for rate in rates
    ]  # fmt: skip
    return RunSpec.stack(one)


def rows(rounds: int = ROUNDS) -> list[Row]:
    """The table, everything timed `rounds` times."""
    runs = spec()
    seen = windows(runs)
    result = []
    for controller in controllers():
        took = microseconds(controller, runs, seen, rounds)
        name = f"one decision for {RUNS} runs: {type(controller).__name__}"
        result.append(Row(name, took, "us", LIMIT, LIMIT / took))
    return result


def microseconds(controller: Controller, runs: RunSpec, seen: list[Window], rounds: int = ROUNDS) -> float:
    """Least time of a decision in the middle of a run: other work on the machine only adds to it."""
    state, middle = controller.init(runs), DECISIONS // 2
    for window in seen[:middle]:
        state, _ = controller.decide(state, window)
    return 1e6 * min(seconds(lambda: controller.decide(state, seen[middle])) for _ in range(rounds))
