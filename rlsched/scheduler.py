"""A learned policy, or any controller, as the learning-rate scheduler of a PyTorch run."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import ASGD, SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rlsched import _check
from rlsched.contract import TELEMETRY, Array, Controller, RunSpec, State, Window, check_controller
from rlsched.controllers import Guard, PolicyController
from rlsched.monitor import Monitor
from rlsched.policy import Policy
from rlsched.tensors import as_losses, structure, to_array, to_arrays, to_tensors

if TYPE_CHECKING:
    from rlsched.sampler import CurriculumSampler

DEFAULT_DECISIONS = 20
MAX_WARNINGS = 3
"""Events of one kind that are shown as warnings; the rest are only kept in `events`."""


@dataclass(frozen=True)
class Event:
    """Something that a guard rail noticed: at which step, of which kind, in words."""

    step: int
    kind: str
    message: str


class RLScheduler(LRScheduler):
    """Sets the learning rate of every parameter group, and the weights of an attached `CurriculumSampler`.

    Call `step` once after each `optimizer.step()`, with the loss:

        scheduler = rlsched.RLScheduler(optimizer, num_steps=2000, policy="policy.safetensors")
        for x, y in loader:
            loss = loss_fn(model(x), y)
            loss.backward(); optimizer.step(); optimizer.zero_grad()
            scheduler.step(loss)

    The groups' learning rates at construction (or their `initial_lr`, if an earlier scheduler left one, as with
    torch's own) are the base; their ratios are kept. After `num_steps` steps the learning rate stays where it
    ended: at zero, for the learned policy.

    Args:
        optimizer: any `torch.optim.Optimizer`.
        num_steps: optimizer steps of the whole run, at least 2.
        policy: an exported policy, or the path of one. Give this or `controller`.
        controller: any other `Controller`, for example `rlsched.Cosine()`.
        num_decisions: how often it decides, in [1, num_steps - 1]; by default 20, or fewer in a run that
            is shorter than that.
        batch_size: examples per optimizer step, at least 1, if you know it; with a sampler it is known.
        guard: wrap the controller in a `Guard`, unless it is one: back off at once when a loss is not finite.
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
        guard: bool = True,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}.")
        self.num_steps = _check.integer("num_steps", num_steps, 2, remedy="It counts optimizer steps.")
        if num_decisions is None:
            num_decisions = min(DEFAULT_DECISIONS, self.num_steps - 1)
        self.num_decisions = _check.integer("num_decisions", num_decisions, 1, self.num_steps - 1)
        self.batch_size = None if batch_size is None else _check.integer("batch_size", batch_size, 1)
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event must be callable or None, got {type(on_event).__name__}.")
        self.events: list[Event] = []
        self._on_event = on_event
        chosen = _choose(policy, controller)
        self._controller: Controller = Guard(chosen) if guard and not isinstance(chosen, Guard) else chosen
        self._guarded = isinstance(self._controller, Guard)
        unknown = self._controller.reads - TELEMETRY
        if unknown:
            raise ValueError(
                f"controller reads {sorted(unknown)}, which RLScheduler cannot measure; it can measure "
                f"{sorted(TELEMETRY)}."
            )
        self._sampler: CurriculumSampler | None = None
        self._monitor = Monitor(optimizer, self._controller.reads)
        self._state: State = {}
        self._history: list[dict[str, Any]] = []
        self._lr_scale: Array = np.ones((1, 1))
        self._bucket_weights: Array = np.ones((1, 1))
        super().__init__(optimizer)

    def _initial_step(self) -> None:
        # Called by the base class's constructor, in place of a first `step()`: there is no loss yet.
        self._step_count = 1
        self.last_epoch = 0
        self._restart()

    def attach(self, sampler: CurriculumSampler) -> None:
        """Let this scheduler set the weights of `sampler`, whose constructor calls this.

        Raises ValueError after the first step or if a sampler is attached already.
        """
        if self.last_epoch > 0 or self._sampler is not None:
            found = "one already" if self._sampler is not None else f"{self.last_epoch} steps done"
            raise ValueError(
                f"scheduler must be new, without a sampler, got {found}: "
                "make the CurriculumSampler right after the RLScheduler."
            )
        self._sampler = sampler
        self._restart()

    @property
    def bucket_weights(self) -> Array:
        """(K,) probability of drawing from each bucket now; (1,) without a sampler."""
        return self._bucket_weights[0].copy()

    def report_validation(self, loss: float | Tensor) -> None:
        """Tell the policy a validation loss, at any time; optional. It reaches the next decision."""
        losses = as_losses("loss", loss)
        if losses is None or losses.size != 1 or not math.isfinite(losses[0]):
            raise ValueError(f"loss must be one finite number, got {loss!r}.")
        self._monitor.report_validation(float(losses[0]))

    def step(self, loss: float | Tensor | Array | None = None) -> None:
        """Account for one optimizer step and set the learning rate of the next.

        Args:
            loss: the step's training loss: a number or 0-d tensor, the mean; or a 1-d tensor or array, one
                per example in the order of the batch, which a curriculum needs; or None, with which a policy
                is linear decay after a short warm-up. A non-finite loss is an event, not an error: the guard
                cuts the learning rate of the steps to come. The update that this loss led to has been made;
                skip it yourself (as gradient scaling does) if the model is to survive it.

        Raises:
            TypeError, ValueError: `loss` is of another type or shape, or does not match the batch.
        """
        losses = as_losses("loss", loss)
        finite = losses is None or bool(np.isfinite(losses.mean()))
        # An update may rightly have been skipped where the loss is not finite.
        if self._step_count == 1 and finite and not getattr(self.optimizer, "_opt_called", False):
            warnings.warn(
                "scheduler.step() was called before optimizer.step(): call it after, or the first learning "
                "rate of the schedule is skipped.",
                stacklevel=2,
            )
        ids = None
        if self._sampler is not None:
            ids = self._sampler.take_bucket_ids(1 if losses is None else losses.size)
        self._step_count += 1
        self.last_epoch += 1
        if self.last_epoch <= self.num_steps:
            self._monitor.record(losses, ids)
            self._advance(diverging=not finite)
        elif self.last_epoch == self.num_steps + 1:
            self._emit(
                "past_end",
                f"step {self.last_epoch} is beyond num_steps={self.num_steps}: the learning rate stays at "
                "its final value. Give num_steps the optimizer steps of the whole run.",
            )
        self._apply()

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of every parameter group for the next step."""
        offset = min(self.last_epoch - self._window_start, self._lr_scale.shape[1] - 1)
        scale = float(self._lr_scale[0, offset])
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            lr = group["lr"]
            # A copy: a tensor learning rate is filled in place.
            group.setdefault("initial_lr", lr.clone() if isinstance(lr, Tensor) else lr)
            self.base_lrs.append(group["initial_lr"])
        return [base * scale for base in self.base_lrs]

    def history(self) -> dict[str, Array]:
        """What was decided so far, one row for each of n decisions.

        Returns:
            `step` (n,) at which each took effect, `lr_scale` (n,) the multiplier at that step, `lr` (n, G), NaN
            for a parameter group that there was not yet, `bucket_weights` (n, K) and `loss` (n,), the mean of
            the window before, NaN where unknown.
        """
        groups = len(self._history[-1]["lr"])
        rows = [row | {"lr": _pad(row["lr"], groups)} for row in self._history]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue, as tensors and plain values (safe under `weights_only=True`).

        The policy is not part of it: construct with the same one, then load.
        """
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "base_lrs": [float(lr) for lr in self.base_lrs],
            "num_steps": self.num_steps,
            "num_decisions": self.num_decisions,
            "batch_size": self.batch_size,
            "decision": self._decision,
            "window_start": self._window_start,
            "window_end": self._window_end,
            "diverging": self._diverging,
            "lr_scale": torch.from_numpy(self._lr_scale.copy()),
            "bucket_weights": torch.from_numpy(self._bucket_weights.copy()),
            "controller": to_tensors(self._state),
            "monitor": self._monitor.state_dict(),
            "history": {name: torch.from_numpy(rows) for name, rows in self.history().items()},
            "events": [[event.step, event.kind, event.message] for event in self.events],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, and set the optimizer's learning rates accordingly.

        Construct the scheduler (and its sampler) as in the saved run first; `num_steps`, `num_decisions` and
        the base learning rates are taken from the state. ValueError, with nothing changed, if it is the state
        of another kind of scheduler or controller, or of another number of buckets or parameter groups.
        """
        self._check_state(state_dict)
        for name in ("last_epoch", "_step_count", "num_steps", "num_decisions", "batch_size"):
            setattr(self, name, state_dict[name])
        self.base_lrs = list(state_dict["base_lrs"])
        self._spec = self._make_spec()
        self._decision, self._diverging = state_dict["decision"], state_dict["diverging"]
        self._window_start, self._window_end = state_dict["window_start"], state_dict["window_end"]
        self._lr_scale = to_array(state_dict["lr_scale"])
        self._bucket_weights = to_array(state_dict["bucket_weights"])
        self._state = to_arrays(state_dict["controller"])
        self._monitor.load_state_dict(state_dict["monitor"])
        columns = {name: to_array(rows) for name, rows in state_dict["history"].items()}
        count = len(columns["step"])
        self._history = [{name: rows[row] for name, rows in columns.items()} for row in range(count)]
        self.events = [Event(*event) for event in state_dict["events"]]
        self._apply()

    def _check_state(self, state_dict: dict[str, Any]) -> None:
        mine = self.state_dict()
        if not isinstance(state_dict, dict) or set(state_dict) != set(mine):
            raise ValueError("the state is not one of an RLScheduler: load what its state_dict() returned.")
        if structure(state_dict["controller"]) != structure(mine["controller"]):
            raise ValueError(
                "the state is of another kind of controller than this scheduler's: construct it with the policy "
                "or controller, and the guard, of the saved run."
            )
        for what, found, wanted in (
            ("buckets", state_dict["bucket_weights"].shape[1], self._bucket_weights.shape[1]),
            ("parameter groups", len(state_dict["base_lrs"]), len(self.optimizer.param_groups)),
        ):
            if found != wanted:
                raise ValueError(
                    f"the state is of a run with {found} {what}, this one has {wanted}: construct the "
                    "optimizer, the scheduler and its sampler as in the saved run before loading."
                )

    def _make_spec(self) -> RunSpec:
        sampler = self._sampler
        return RunSpec.single(
            self.num_steps,
            self.num_decisions,
            [float(lr) for lr in self.base_lrs],
            adaptive=is_adaptive(self.optimizer),
            batch_size=self.batch_size if sampler is None else sampler.batch_size * sampler.batches_per_step,
            bucket_shares=(1.0,) if sampler is None else sampler.buckets.shares,
            bucket_difficulty=None if sampler is None else sampler.buckets.difficulty,
        )

    def _restart(self) -> None:
        """Begin the run: the opening."""
        self._spec = self._make_spec()
        self._state = self._controller.init(self._spec)
        self._history = []
        self._decision = 0
        self._diverging = False
        self._decide(Window.opening(self._spec))
        self._apply()

    def _advance(self, diverging: bool) -> None:
        """Decide if the window is over, or at once, within it, at the first loss that is not finite."""
        ended = self.last_epoch >= self._window_end
        struck = diverging and not self._diverging and self._guarded
        self._diverging = diverging
        if struck:
            self._emit(
                "non_finite_loss",
                f"the loss at step {self.last_epoch} is not finite: the learning rate is cut. If the losses stay "
                "so, the model is lost: restart from a checkpoint with a lower base learning rate.",
            )
        if ended or struck:
            self._decision += int(ended)
            window = self._monitor.close(self._spec, self._decision)
            self._decide(window)
            if self._guarded and window.nonfinite[0] and np.isfinite(window.validation_loss[0]):
                # The guard keeps such a window from the policy, but not what the user reported in it.
                self._monitor.report_validation(float(window.validation_loss[0]))

    def _decide(self, window: Window) -> None:
        self._state, decision = self._controller.decide(self._state, window)
        decision.check(window)
        self._lr_scale, self._bucket_weights = decision.lr_scale, decision.bucket_weights
        self._window_start = int(window.step[0])
        steps_ahead = int(window.steps_ahead[0])
        self._window_end = self._window_start + steps_ahead
        self._monitor.begin(self._window_start, steps_ahead, self._spec.num_buckets)
        scale = float(self._lr_scale[0, 0])
        self._history.append(
            {
                "step": self._window_start,
                "lr_scale": scale,
                "lr": np.array([float(lr) * scale for lr in self.base_lrs]),
                "bucket_weights": self._bucket_weights[0].copy(),
                "loss": float(window.loss[0]),
            }
        )

    def _apply(self) -> None:
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(float(lr))
            else:
                group["lr"] = float(lr)
        self._last_lr: list[float | Tensor] = [
            group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"]
            for group in self.optimizer.param_groups
        ]

    def _emit(self, kind: str, message: str) -> None:
        event = Event(self.last_epoch, kind, message)
        self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)
        elif sum(other.kind == kind for other in self.events) <= MAX_WARNINGS:
            warnings.warn(message, stacklevel=4)


def is_adaptive(optimizer: Optimizer) -> bool:
    """Whether the optimizer counts as one of Adam's kind: all but plain (momentum, averaged) SGD do."""
    return not isinstance(optimizer, SGD | ASGD)


def _choose(policy: Policy | str | os.PathLike[str] | None, controller: Controller | None) -> Controller:
    if policy is not None and controller is not None:
        raise ValueError("give policy=... or controller=..., not both.")
    if policy is None and controller is None:
        raise ValueError(
            "give either policy=... or controller=...: train and export a policy with "
            "`rlsched train --out DIR`, or use for example controller=rlsched.Linear()."
        )
    if controller is not None:
        check_controller("controller", controller)
        return controller
    if isinstance(policy, str | os.PathLike):
        policy = Policy.load(policy)
    if not isinstance(policy, Policy):
        remedy = ": pass it as controller=..." if hasattr(policy, "decide") else ""
        raise TypeError(f"policy must be an rlsched.Policy or its path, got {type(policy).__name__}{remedy}.")
    return PolicyController(policy)


def _pad(values: Array, size: int) -> Array:
    return np.concatenate([values, np.full(size - len(values), np.nan)])
