"""One training run under a controller: windows, alarms, feedback and decisions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from rlsched import ranks
from rlsched.alarm import LOST, LossAlarm
from rlsched.contract import Array, Controller, RunSpec
from rlsched.controllers import Guard
from rlsched.decisions import Decisions
from rlsched.events import Event, EventLog
from rlsched.monitor import Monitor
from rlsched.tensors import as_losses, mean_of, to_arrays, to_tensors

if TYPE_CHECKING:
    from rlsched.sampler import CurriculumSampler

Validate = Callable[[], float | Tensor | None]
"""Gives the loss on held-out data, or None for nothing to say."""

ALARMS = {
    "non_finite_loss": "is not finite: the learning rate is cut. "
    "If that can happen, skip the updates of such losses.",
    "exploding_loss": "is far above the usual: the learning rate is cut, and then rises again slowly. "
    "If your loss rises for another reason, pass guard=False.",
}
"""Kind of alarm -> what it means, and what to do."""

NO_BUCKET_LOSSES = {
    True: "a sampler is attached, but the losses of its buckets are not known: their weights stay natural. "
    'Pass the losses of the batch without averaging (reduction="none").',
    False: "a sampler is attached, but no batch was drawn from it: its weights have no effect. "
    "Give it to your DataLoader, as batch_sampler=.",
}
"""Whether batches were drawn -> what is wrong."""


class ScheduledRun:
    """What happens around a controller as one run goes on; what is done with its decisions is the host's part.

    Args:
        controller: who decides.
        monitor: what measures; it reads what `controller` does.
        log: where events go.
        validate: asked for the validation loss just before each decision, or None.
        record: called with each decision, a row of `Decisions.history`.

    Attributes:
        step: optimizer steps done.
        spec: what is fixed about the run.
        sampler: whose buckets are renewed at each decision, or None.
        decisions: the decision in force, and all before.
        reads: telemetry that the controller uses, what a guard around it reads apart.
    """

    spec: RunSpec

    def __init__(
        self,
        controller: Controller,
        monitor: Monitor,
        log: EventLog,
        validate: Validate | None = None,
        record: Callable[[dict[str, Any]], None] = lambda row: None,
    ) -> None:
        self.step = 0
        self.sampler: CurriculumSampler | None = None
        self.decisions = Decisions(controller)
        self._guarded = isinstance(controller, Guard)
        # The guard reads losses too, but is no reason to want some.
        self.reads = controller.controller.reads if isinstance(controller, Guard) else controller.reads
        self._monitor, self._log, self._validate, self._record = monitor, log, validate, record
        self._alarm = LossAlarm()
        self._informed = False

    def begin(self, spec: RunSpec, base_lrs: Sequence[float]) -> None:
        """Begin the run `spec`: its opening."""
        self.spec, self.step = spec, 0
        self._alarm = LossAlarm()
        self.decisions.begin(spec, base_lrs)
        self._begin_window()

    def extend(self, spec: RunSpec) -> None:
        """Go on as the longer run `spec`; the next step decides anew."""
        if self.step > int(self.spec.num_steps[0]):
            # No step was recorded since the end.
            validation = self._monitor.validation
            self._monitor.begin(self.step, 1, spec.num_buckets)
            self._monitor.report_validation(validation)
        self.spec = spec
        self.decisions.end_window(self.step + 1)

    def record(
        self,
        mean: float | None,
        losses: Array | None,
        ids: Array | None,
        base_lrs: Callable[[], Sequence[float]],
    ) -> None:
        """Account for a step by its mean loss, its examples' losses and buckets if known; decide if it is time.

        `base_lrs` gives the base learning rates, for the record of a decision.
        """
        if self.step == 0:
            self._record(self.decisions.latest)
        self.step += 1
        num_steps = int(self.spec.num_steps[0])
        if self.step <= num_steps:
            self._monitor.record(mean, losses, ids)
            self._informed |= mean is not None
            self._advance(self._alarm.check(mean) if self._guarded else None, base_lrs)
        elif self.step == num_steps + 1:
            self.emit(
                "past_end",
                f"step {self.step} is beyond num_steps={num_steps}: the learning rate stays at its final value. "
                "Give num_steps the optimizer steps of the whole run.",
            )

    @property
    def window_ends(self) -> bool:
        """Whether the next step ends the window."""
        return self.step + 1 >= self.decisions.window_end

    def report_validation(self, name: str, loss: Any) -> None:
        """A validation loss, or losses of examples, or None, for the next decision; `name` is for errors."""
        losses = as_losses(name, float(loss) if isinstance(loss, int) else loss)
        if losses is None:
            return
        mean = mean_of(losses)
        if math.isfinite(mean):
            self._monitor.report_validation(mean)
        else:
            self.emit("non_finite_validation", "a validation loss is not finite: it is ignored.", once=True)

    def report_buckets(self, losses: Array) -> None:
        """Losses (K,) of the buckets, for the next decision; NaN where not measured."""
        self._monitor.report_buckets(losses)

    def emit(self, kind: str, message: str, *, once: bool = False) -> None:
        """Log an event of this step."""
        self._log.emit(self.step, kind, message, once=once)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue but the spec, as tensors and plain values."""
        return {
            "last_epoch": self.step,
            "alarm": self._alarm.state_dict(),
            "monitor": self._monitor.state_dict(),
            "events": [[event.step, event.kind, event.message] for event in self._log.events],
            **to_tensors(self.decisions.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; ValueError, with nothing changed, if it is of another kind of run.

        The `spec` of the run is not part of it: set it afterwards.
        """
        self.decisions.load_state_dict(to_arrays({name: state[name] for name in self.decisions.state_dict()}))
        self.step = state["last_epoch"]
        self._alarm.load_state_dict(state["alarm"])
        self._monitor.load_state_dict(state["monitor"])
        self._log.events = [Event(*event) for event in state["events"]]

    def _advance(self, alarm: str | None, base_lrs: Callable[[], Sequence[float]]) -> None:
        """Decide if the window is over, or at once, within it, at an alarm."""
        ended = self.step >= self.decisions.window_end
        if self._guarded and self._alarm.lost:
            self.emit(
                "model_lost",
                f"no loss was finite in the last {LOST} steps: the model is lost. Restart from a checkpoint, with "
                "a lower base learning rate.",
                once=True,
            )
        if alarm is not None:
            self.emit(alarm, f"the loss at step {self.step} {ALARMS[alarm]}")
        elif not ended:
            return
        if ended:
            if self._validate is not None:
                self.report_validation("the result of validate", self._validate())
            self.decisions.advance(self.spec, self.step)
        self._notice_silence()
        validation = self._monitor.validation
        # Before those that were drawn stand in, which are known of all ranks already.
        self._monitor.report_buckets(ranks.mean(self._monitor.buckets))
        window = self._monitor.close(self.spec, self.decisions.index)
        window = ranks.agree(window).replace(alarm=np.array([alarm is not None]))
        if self.sampler is not None:
            if self._late and "bucket_loss" in self.reads and np.isnan(window.bucket_loss).all():
                self.emit("no_bucket_losses", NO_BUCKET_LOSSES[self.sampler.drawn > 0], once=True)
            # What was drawn until now counts for the buckets it was drawn from: batches remember them.
            self.sampler.refresh()
        for kind, message in self.decisions.decide(window, base_lrs()).notes:
            self.emit(kind, message, once=True)
        self._record(self.decisions.latest)
        self._begin_window()
        if self._guarded and (window.alarm[0] or window.nonfinite[0]):
            # The guard keeps such a window from the policy, but not what the user reported in it, on this rank.
            self._monitor.report_validation(validation)

    @property
    def _late(self) -> bool:
        """Whether what has not been reported yet is missing: some hosts begin a little later."""
        return self.decisions.index >= 4

    def _notice_silence(self) -> None:
        """Tell users of a policy that it has nothing to go by."""
        # A run that was resumed was informed before.
        known = self._informed or any(math.isfinite(loss) for loss in self.decisions.losses)
        if self._late and not known and "loss" in self.reads:
            self.emit(
                "no_loss",
                "no loss has been reported: the schedule is plain linear decay, whatever the policy. Pass it, "
                "step(loss), or let an integration bring it (docs/in_your_run.md).",
                once=True,
            )

    def _begin_window(self) -> None:
        start = self.decisions.window_start
        self._monitor.begin(start, self.decisions.window_end - start, self.spec.num_buckets)
