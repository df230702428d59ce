"""A learned policy, or any controller, as the learning-rate scheduler of a PyTorch run."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rlsched import _check, ranks
from rlsched.contract import Array, Controller, RunSpec
from rlsched.controllers import Guard
from rlsched.decisions import choose_controller
from rlsched.events import Event, EventLog
from rlsched.monitor import Monitor
from rlsched.policy import Policy
from rlsched.rates import base_rates, changed_elsewhere, is_adaptive, scaled, set_rates
from rlsched.run_log import RunLog
from rlsched.scheduled_run import ScheduledRun, Validate
from rlsched.step_watch import StepWatch
from rlsched.tensors import Losses, as_losses, mean_of

if TYPE_CHECKING:
    from rlsched.sampler import CurriculumSampler

DEFAULT_DECISIONS = 20


class RLScheduler(LRScheduler):
    """Sets the learning rate of every parameter group, and the weights of an attached `CurriculumSampler`.

    Call `step` once after each `optimizer.step()`, with the loss:

        scheduler = rlsched.RLScheduler(optimizer, num_steps=2000)
        for x, y in loader:
            loss = loss_fn(model(x), y)
            loss.backward(); optimizer.step(); optimizer.zero_grad()
            scheduler.step(loss)

    The groups' learning rates at construction (or their `initial_lr`, if an earlier scheduler left one, as with
    torch's own) are the base; their ratios are kept, unless the controller scales groups one by one. After
    `num_steps` steps the learning rate stays where it ended: at zero, for the learned policy.

    Args:
        optimizer: any `torch.optim.Optimizer`.
        num_steps: optimizer steps of the whole run, at least 2.
        policy: an exported policy, or the path of one; by default the one that comes with rlsched.
        controller: instead, any other `Controller`, for example `rlsched.Cosine()`.
        num_decisions: how often it decides, in [1, num_steps - 1]; by default 20, or fewer in a run that
            is shorter than that.
        batch_size: examples per optimizer step, at least 1, if you know it; with a sampler it is known.
        epochs: passes over the training data that the run makes, positive, if you know it; with a sampler it is
            known. The more there are, the lower is the best learning rate.
        validate: called without arguments just before each decision; returns the loss on held-out data, in the
            units of the training loss, or None to say nothing this time. Optional: a policy can see overfitting by
            nothing else, and does not always make good use of it (docs/in_your_run.md). A few hundred examples are
            enough; `report_validation` does the same at moments of your choice.
        guard: wrap the controller in a `Guard`, unless it is one: back off at once when a loss is not finite or
            explodes.
        log_to: where each decision is written down: a path, a TensorBoard `SummaryWriter`, `mlflow`, `wandb`, or a
            function; see `rlsched.run_log.RunLog`.
        on_event: called with each `Event`; by default the first of each kind are Python warnings. All are kept in
            `events`.

    Raises:
        TypeError, ValueError: naming the argument, its range, the value and the remedy.
        PolicyFormatError: `policy` is not a policy file.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        num_steps: int,
        policy: Policy | str | os.PathLike[str] | None = None,
        *,
        controller: Controller | None = None,
        num_decisions: int | None = None,
        batch_size: int | None = None,
        epochs: float | None = None,
        validate: Validate | None = None,
        guard: bool = True,
        log_to: Any = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}.")
        if not hasattr(optimizer, "_optimizer_step_post_hooks"):
            # A wrapper such as Accelerate's, whose optimizer has the hooks.
            optimizer = getattr(optimizer, "optimizer", optimizer)
        self.num_steps = _check.integer("num_steps", num_steps, 2, remedy="It counts optimizer steps.")
        if num_decisions is None:
            num_decisions = min(DEFAULT_DECISIONS, self.num_steps - 1)
        self.num_decisions = _check.integer("num_decisions", num_decisions, 1, self.num_steps - 1)
        self.batch_size = None if batch_size is None else _check.integer("batch_size", batch_size, 1)
        self.epochs = None if epochs is None else _check.positive("epochs", epochs)
        if validate is not None and not callable(validate):
            raise TypeError(f"validate must be callable or None, got {type(validate).__name__}.")
        # One rank writes for all: they decide the same.
        self._written = RunLog(log_to if ranks.rank() == 0 else None)
        self._log = EventLog(on_event, self._written.event)
        chosen = choose_controller(policy, controller)
        chosen = Guard(chosen) if guard and not isinstance(chosen, Guard) else chosen
        self._run = ScheduledRun(
            chosen, Monitor(optimizer, chosen.reads), self._log, validate, self._written.decision
        )
        self._watch = StepWatch(optimizer)
        self._reported: Losses | None = None
        super().__init__(optimizer)

    def _initial_step(self) -> None:
        # Called by the base class's constructor, in place of a first `step()`: there is no loss yet.
        if hasattr(self, "_step_count"):
            self._update_lr()
        self._step_count = 1
        self.last_epoch = 0
        self._restart()

    def _update_lr(self, epoch: int | None = None) -> None:
        # The base class sets rates by this; here only SequentialLR comes to it.
        raise TypeError(
            "an RLScheduler sets the rates of the whole run, its warm-up included, and can be no part of a "
            "SequentialLR: use it alone."
        )

    def attach(self, sampler: CurriculumSampler) -> None:
        """Let this scheduler set the weights of `sampler`, whose constructor calls this.

        Raises ValueError after the first step or if a sampler is attached already.
        """
        if self.last_epoch > 0 or self._run.sampler is not None:
            found = "one already" if self._run.sampler is not None else f"{self.last_epoch} steps done"
            raise ValueError(
                f"scheduler must be new, without a sampler, got {found}: "
                "make the CurriculumSampler right after the RLScheduler."
            )
        self._run.sampler = sampler
        try:
            self._restart()
        except ValueError:
            # The controller refuses these buckets: others may be attached in their place.
            self._run.sampler = None
            raise

    @property
    def bucket_weights(self) -> Array:
        """(K,) probability of drawing from each bucket now; (1,) without a sampler."""
        return self._run.decisions.bucket_weights

    @property
    def events(self) -> list[Event]:
        """What the guard rails noticed so far."""
        return self._log.events

    def report_validation(self, loss: float | Tensor) -> None:
        """Tell the policy a validation loss, or those of examples, at any time. It reaches the next decision."""
        self._run.report_validation("loss", loss)

    def extend(self, num_steps: int) -> None:
        """Let the run end later than planned: the next step decides anew, for what is now ahead.

        A learning rate that had fallen for the old end rises again, at once, to where the new progress has it: the
        earlier a run is extended, the smaller the jump.

        Args:
            num_steps: optimizer steps of the whole run, those done included; more than before.
        """
        least, planned = max(self.num_steps, self.last_epoch) + 1, self.num_steps
        self.num_steps = _check.integer("num_steps", num_steps, least, remedy="A run can be extended, not cut.")
        if self.epochs is not None:
            self.epochs *= self.num_steps / planned
        self._run.extend(self._make_spec())

    def report_bucket_losses(self, losses: npt.ArrayLike) -> None:
        """Tell the policy each bucket's loss, measured by you since the last decision; optional.

        Measured on the same examples each time (`Buckets.probe`) they say more than the losses of the examples
        drawn, which they replace at the next decision. A later report before it replaces an earlier one.

        Args:
            losses: (K,) mean loss of each bucket; NaN for one that was not measured, for which the examples
                drawn from it go on standing in.

        Raises:
            TypeError, ValueError: `losses` is of another type or shape, is infinite, or there is no sampler.
        """
        if self._run.sampler is None:
            raise ValueError(
                "report_bucket_losses needs a sampler, got a scheduler without one: make a CurriculumSampler with "
                "this scheduler, or report the whole loss by report_validation."
            )
        values = _check.losses("losses", losses, self._run.spec.num_buckets, "Give one mean loss per bucket.")
        if np.isinf(values).any():
            raise ValueError(
                f"losses must be finite, or NaN for a bucket that was not measured, got {values.tolist()}."
            )
        self._run.report_buckets(values)

    def report_loss(self, loss: float | Tensor | Array) -> None:
        """Give the loss of the step under way, where a training library calls `step()` without it.

        Args:
            loss: as in `step`; of all batches of the step where gradients are accumulated. The last report before
                `step` counts.
        """
        self._reported = as_losses("loss", loss)

    @property
    def loss_reported(self) -> bool:
        """Whether `report_loss` was called since the last step."""
        return self._reported is not None

    def step(self, loss: float | Tensor | Array | Mapping[str, Any] | None = None) -> None:
        """Account for one optimizer step and set the learning rate of the next.

        Args:
            loss: the step's training loss: a number or 0-d tensor, the mean; or a 1-d tensor or array, one
                per example in the order of the batch, which a curriculum needs (and `OnlineBuckets` insist on);
                or None, for what `report_loss` was given; without any, a policy is linear decay after a short
                warm-up. Under `torch.distributed`, each rank passes its own. A non-finite loss is an event, not an
                error: the guard cuts the learning rate of the steps to come. The update that this loss led to has
                been made; skip it yourself (as gradient scaling does) if the model is to survive it.
                It may also be a dict of metrics, of which "loss" and "validation_loss" are read, each if it is
                there; one of them must be.

        Raises:
            TypeError, ValueError: `loss` is of another type or shape, or does not match the batch.
        """
        if isinstance(loss, Mapping):
            loss = self._read_metrics(loss)
        losses, self._reported = (self._reported if loss is None else as_losses("loss", loss)), None
        sampler, ids = self._run.sampler, None
        if sampler is not None:
            losses, ids = sampler.account_for(losses)
        else:
            losses = ranks.mean_loss(losses)
        mean = None if losses is None else mean_of(losses)
        # An update may rightly have been skipped where the loss is not finite.
        finite = mean is None or math.isfinite(mean)
        if self._step_count == 1 and finite and not getattr(self.optimizer, "_opt_called", False):
            warnings.warn(
                "scheduler.step() was called before optimizer.step(): call it after, or the first learning "
                "rate of the schedule is skipped. (If gradient scaling skipped this update, all is well.)",
                stacklevel=2,
            )
        self._notice_misuse(mean)
        self._step_count += 1
        self.last_epoch += 1
        self._run.record(mean, None if ids is None else np.asarray(losses), ids, self._floats)
        self._apply()

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of every parameter group for the next step."""
        decisions = self._run.decisions
        return scaled(self.base_lrs, decisions.lr_scale(self.last_epoch), decisions.group_scale)

    def history(self) -> dict[str, Array]:
        """What was decided so far, one row for each of n decisions.

        Returns:
            `step` (n,) at which each took effect, `lr_scale` (n,) the multiplier at that step, `lr` (n, G) and
            `group_scale` (n, G), NaN for a parameter group that there was not yet, `bucket_weights` (n, K), and of
            the window before, NaN where unknown, `loss` (n,), its mean, and `validation_loss` (n,), the latest.
        """
        return self._run.decisions.history()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue, as tensors and plain values (safe under `weights_only=True`).

        The policy is not part of it: construct with the same one, then load.
        """
        return {
            "_step_count": self._step_count,
            "base_lrs": self._floats(),
            "num_steps": self.num_steps,
            "num_decisions": self.num_decisions,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            **self._run.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, and set the optimizer's learning rates accordingly.

        Construct the scheduler (and its sampler) as in the saved run first; `num_steps`, `num_decisions` and
        the base learning rates are taken from the state. ValueError, with nothing changed, if it is the state
        of another kind of scheduler or controller, or of another number of buckets or parameter groups.
        """
        if not isinstance(state_dict, dict) or set(state_dict) != set(self.state_dict()):
            raise ValueError("the state is not one of an RLScheduler: load what its state_dict() returned.")
        found, groups = len(state_dict["base_lrs"]), len(self.optimizer.param_groups)
        if found != groups:
            raise ValueError(
                f"the state is of a run with {found} parameter groups, this one has {groups}: construct the "
                "optimizer as in the saved run before loading."
            )
        self._run.load_state_dict(state_dict)
        for name in ("last_epoch", "_step_count", "num_steps", "num_decisions", "batch_size", "epochs"):
            setattr(self, name, state_dict[name])
        self.base_lrs = list(state_dict["base_lrs"])
        self._run.spec = self._make_spec()
        self._written.resumed(self.last_epoch)
        self._apply()

    def _make_spec(self) -> RunSpec:
        sampler, batch_size, epochs = self._run.sampler, self.batch_size, self.epochs
        if sampler is not None:
            batch_size = sampler.batch_size * sampler.batches_per_step * sampler.num_ranks
            epochs = self.num_steps * batch_size / len(sampler.buckets)
        return RunSpec.single(
            self.num_steps,
            self.num_decisions,
            self._floats(),
            adaptive=is_adaptive(self.optimizer),
            batch_size=batch_size,
            epochs=epochs,
            bucket_shares=(1.0,) if sampler is None else sampler.buckets.shares,
            bucket_difficulty=None if sampler is None else sampler.buckets.difficulty,
            group_rates=True,
        )

    def _restart(self) -> None:
        """Begin the run: the opening."""
        self._run.begin(self._make_spec(), self._floats())
        self._apply()

    def _read_metrics(self, metrics: Mapping[str, Any]) -> Any:
        """The training loss among `metrics`; the validation loss is reported."""
        if not {"loss", "validation_loss"} & set(metrics):
            raise ValueError(f'metrics must hold "loss" or "validation_loss", got {sorted(map(str, metrics))}.')
        if metrics.get("validation_loss") is not None:
            self._run.report_validation("validation_loss", metrics["validation_loss"])
        return metrics.get("loss")

    def _notice_misuse(self, loss: float | None) -> None:
        """Events for what a script does wrong around this scheduler."""
        emit = self._run.emit
        if loss is not None and loss < 0 and "loss" in self._run.reads:
            emit(
                "negative_loss",
                "the loss is negative, and a policy then holds still: add a constant to it.",
                once=True,
            )
        wrong_pace = self._watch.check()
        if wrong_pace is not None:
            emit(*wrong_pace, once=True)
        # Not at every step: it may have to wait for another device.
        if self._run.window_ends and changed_elsewhere(self.optimizer, self._last_lr):
            emit(
                "lr_changed",
                "something else changed the learning rate, and is overruled: RLScheduler sets it, from the rate "
                "that a group had at first. Take other schedulers out; after a resume, load this one's state too.",
                once=True,
            )

    def _floats(self) -> list[float]:
        """The base learning rate of each group, those that joined since included."""
        self.base_lrs += base_rates(self.optimizer, len(self.base_lrs))
        return [float(lr) for lr in self.base_lrs]

    def _apply(self) -> None:
        self.base_lrs += base_rates(self.optimizer, len(self.base_lrs))
        self._last_lr: list[float | Tensor] = set_rates(self.optimizer, self.get_lr())
