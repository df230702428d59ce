"""Noticing a scheduler that is stepped more or less often than its optimizer."""

from __future__ import annotations

from weakref import ref

from torch.optim import Optimizer

SETTLED = 32
"""Steps of the scheduler after which its pace is judged: some updates may rightly have been skipped before."""


class StepWatch:
    """Counts the steps of `optimizer` beside those of its scheduler."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer_steps = 0
        self._scheduler_steps = 0
        # Weak, so that the optimizer does not keep the watches of schedulers that were dropped.
        me = ref(self)
        optimizer.register_step_post_hook(lambda *_: _count(me()))

    def check(self) -> tuple[str, str] | None:
        """Account for a step of the scheduler; kind and message of what is wrong with its pace, if anything."""
        self._scheduler_steps += 1
        done, expected = self._optimizer_steps, self._scheduler_steps
        if 2 * expected <= 3 * done <= 6 * expected:
            return None  # nearly always
        found = f"the optimizer made {done} steps for {expected} of scheduler.step()"
        if done > 2 * expected + 3:
            return "stepped_too_rarely", (
                f"{found}: call it after every optimizer.step(), not once per epoch, or the schedule will not "
                'come to its end (in Lightning: interval="step").'
            )
        if expected >= SETTLED and 3 * done < 2 * expected:
            return "stepped_too_often", (
                f"{found}: call it once after each optimizer.step(), or the schedule ends early. If gradients are "
                "accumulated, not after every backward; with Accelerate, do not prepare the scheduler."
            )
        return None


def _count(watch: StepWatch | None) -> None:
    if watch is not None:
        watch._optimizer_steps += 1
