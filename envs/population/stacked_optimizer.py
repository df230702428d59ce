"""SGD with momentum, Adam and AdamW over stacked parameters, each row with its own settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from rlsched.contract import Array, State


@dataclass(frozen=True)
class OptimizerSettings:
    """Settings of one row, read from a torch optimizer.

    SGD is written in Adam's form: its momentum buffer is the first moment, the second moment stays 1.
    """

    adaptive: bool
    first_decay: float
    first_gain: float
    second_decay: float
    eps: float
    nesterov: float
    coupled_decay: float
    decoupled_decay: float

    @classmethod
    def of(cls, optimizer: Optimizer) -> OptimizerSettings:
        """The settings of `optimizer`; ValueError with the remedy for one that cannot be stacked."""
        remedy = "use TorchRun for it"
        if type(optimizer) not in (SGD, Adam, AdamW) or len(optimizer.param_groups) != 1:
            found = f"{type(optimizer).__name__} with {len(optimizer.param_groups)} parameter groups"
            raise ValueError(
                f"optimizer must be SGD, Adam or AdamW with one parameter group, got {found}: {remedy}."
            )
        (group,) = optimizer.param_groups
        refused = [name for name in ("maximize", "amsgrad") if group.get(name)]
        if refused:
            raise ValueError(f"optimizer must not use {refused[0]}: {remedy}.")
        if isinstance(optimizer, SGD):
            if group["dampening"]:
                raise ValueError(f"optimizer must not use dampening, got {group['dampening']}: {remedy}.")
            momentum = float(group["momentum"])
            return cls(
                False, momentum, 1.0, 1.0, 0.0, momentum if group["nesterov"] else 0.0, group["weight_decay"], 0.0
            )
        first, second = group["betas"]
        decoupled = isinstance(optimizer, AdamW)
        decay = float(group["weight_decay"])
        return cls(
            True,
            first,
            1.0 - first,
            second,
            group["eps"],
            0.0,
            0.0 if decoupled else decay,
            decay if decoupled else 0.0,
        )


class StackedOptimizer:
    """One optimizer step for every row of (R, M) parameters, in a few passes over them.

    With g the gradient, k the row's steps so far and the row's settings (Kingma and Ba 2015, arXiv:1412.6980;
    Loshchilov and Hutter 2019, arXiv:1711.05101; torch's SGD),

        w <- w - lr * decoupled_decay * w,   g <- g + coupled_decay * w
        m <- first_decay * m + first_gain * g,   v <- second_decay * v + (1 - second_decay) * g^2
        w <- w - lr / (1 - first_decay^k) * m / (sqrt(v / (1 - second_decay^k)) + eps)

    without the bias corrections for SGD, whose v stays 1, and with g + momentum * m for m where it is Nesterov's.

    Args:
        settings: of each row.
        parameters: (R, M), updated in place.
    """

    def __init__(self, settings: Sequence[OptimizerSettings], parameters: Tensor) -> None:
        self._parameters = parameters
        self._settings = {
            name: np.array([getattr(row, name) for row in settings], dtype=np.float64)
            for name in OptimizerSettings.__dataclass_fields__
        }
        self.first = torch.zeros_like(parameters)
        self._adaptive = self._settings["adaptive"] > 0
        self.second = torch.zeros_like(parameters) if self._adaptive.any() else torch.zeros(len(parameters), 0)
        self.second[torch.from_numpy(~self._adaptive)] = 1.0
        self.steps = np.zeros(len(settings), dtype=np.int64)

    def step(self, gradients: Tensor, lr: Array, active: Array) -> None:
        """Update the `active` (R,) rows with learning rates `lr` (R,); the others stay bit-equal."""
        rows, weights = self._settings, self._parameters
        self.steps += active
        decay = np.where(active, rows["coupled_decay"], 0.0)
        if decay.any():
            gradients = gradients + self._column(decay) * weights
        if rows["decoupled_decay"].any():
            weights.mul_(self._column(np.where(active, 1.0 - lr * rows["decoupled_decay"], 1.0)))
        self.first.mul_(self._column(np.where(active, rows["first_decay"], 1.0)))
        self.first.addcmul_(gradients, self._column(np.where(active, rows["first_gain"], 0.0)))
        direction = self.first
        if rows["nesterov"].any():
            direction = torch.where(
                self._column(rows["nesterov"]) > 0,
                gradients + self._column(rows["nesterov"]) * direction,
                direction,
            )
        count = np.maximum(self.steps, 1)
        rate = np.where(active, lr, 0.0)
        if not self._adaptive.any():
            weights.addcmul_(direction, self._column(-rate))
            return
        self.second.mul_(self._column(np.where(active, rows["second_decay"], 1.0)))
        gain = self._column(np.where(active, 1.0 - rows["second_decay"], 0.0))
        self.second.addcmul_(gradients * gain, gradients)
        first_correction = np.where(self._adaptive, 1.0 - rows["first_decay"] ** count, 1.0)
        second_correction = np.where(self._adaptive, 1.0 - rows["second_decay"] ** count, 1.0)
        denominator = self.second.sqrt().div_(self._column(np.sqrt(second_correction)))
        denominator.add_(self._column(rows["eps"]))
        weights.addcdiv_(direction * self._column(-rate / first_correction), denominator)

    def state_dict(self) -> State:
        """Moments and step counts of all rows, copied."""
        return {"first": self.first.clone(), "second": self.second.clone(), "steps": self.steps.copy()}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])
        self.steps = state["steps"].copy()

    def _column(self, values: Array) -> Tensor:
        return torch.from_numpy(values).to(self._parameters)[:, None]
