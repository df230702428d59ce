"""A small task for tests of drivers, and what they are compared by."""

import dataclasses
from typing import Any

import numpy as np

from rlsched.envs.drivers import Driven
from rlsched.envs.tasks import Digits, DigitsConfig, Task

SMALL = DigitsConfig(
    data_seed=0, num_steps=60, num_decisions=12, batch_size=8, optimizer="adam", base_lr=0.01, curriculum=False,
    num_examples=200, width=8,
)  # fmt: skip


def small(**changes: Any) -> Task:
    """Sixty steps of a small MLP on digits."""
    return Digits().build(dataclasses.replace(SMALL, **changes))


def counted(task: Task) -> tuple[Task, list[int]]:
    """The task, and the list to which each optimizer step of any of its runs adds one; it cannot be stacked."""
    steps: list[int] = []

    def make(model):
        optimizer = task.make_optimizer(model)
        optimizer.register_step_post_hook(lambda *_: steps.append(1))
        return optimizer

    return dataclasses.replace(task, make_optimizer=make), steps


def same(one: Driven, other: Driven, *, but: tuple[str, ...] = ()) -> bool:
    """Whether two runs are equal to the bit, in all fields `but` some."""
    names = [name for name in Driven.__dataclass_fields__ if name not in but]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
