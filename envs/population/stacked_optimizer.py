"""SGD with momentum, Adam and AdamW over stacked parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from rlsched.contract import Array, State
from rlsched.envs.population.layout import Layout, parameter_norms, parameter_products

TINY = 1e-30
"""Added to squares of gradients under a root: far below what Adam's eps lets through."""


@dataclass(frozen=True)
class OptimizerSettings:
    """Settings read from a torch optimizer, without its learning rate. Rows of one stack have equal ones.

    Attributes:
        adaptive: whether it is of Adam's kind.
        first_decay: SGD's momentum, or Adam's first beta.
        second_decay: Adam's second beta.
        eps: Adam's.
        nesterov: of SGD.
        decay: weight decay.
        decoupled: whether the decay is AdamW's.
    """

    adaptive: bool
    first_decay: float
    second_decay: float
    eps: float
    nesterov: bool
    decay: float
    decoupled: bool

    @classmethod
    def of(cls, optimizer: Optimizer) -> OptimizerSettings | str:
        """The settings of `optimizer`, or why it cannot be stacked."""
        if type(optimizer) not in (SGD, Adam, AdamW) or len(optimizer.param_groups) != 1:
            found = f"{type(optimizer).__name__} with {len(optimizer.param_groups)} parameter groups"
            return f"its optimizer is not SGD, Adam or AdamW with one parameter group, but {found}"
        (group,) = optimizer.param_groups
        for name in ("maximize", "amsgrad", "dampening"):
            if group.get(name):
                return f"its optimizer uses {name}"
        decay = float(group["weight_decay"])
        if isinstance(optimizer, SGD):
            return cls(False, float(group["momentum"]), 0.0, 0.0, bool(group["nesterov"]), decay, False)
        first, second = (float(beta) for beta in group["betas"])
        if not group["eps"]:
            return "its optimizer has an eps of 0, which divides the padding of a stack by zero"
        decoupled = bool(group.get("decoupled_weight_decay", isinstance(optimizer, AdamW)))
        return cls(True, first, second, float(group["eps"]), False, decay, decoupled)


class StackedOptimizer:
    """One optimizer step for every row, in a few passes over flat parameters.

    With g the gradient and k the row's steps so far (Kingma and Ba 2015, arXiv:1412.6980; Loshchilov and
    Hutter 2019, arXiv:1711.05101; torch's SGD),

        SGD:   m <- momentum * m + g,   w <- w - lr * m          (Nesterov: lr * (g + momentum * m))
        Adam:  m <- b1 * m + (1 - b1) * g,   v <- b2 * v + (1 - b2) * g^2
               w <- w - lr / (1 - b1^k) * m / (sqrt(v / (1 - b2^k)) + eps)

    after g <- g + decay * w, or w <- w - lr * decay * w where the decay is decoupled. Only the learning rate and
    the bias corrections differ by row: they alone are applied parameter by parameter.

    Args:
        settings: of all rows.
        layout: of the flat tensors.
        parameters: flat, updated in place.
    """

    def __init__(self, settings: OptimizerSettings, layout: Layout, parameters: Tensor) -> None:
        self._settings, self._parameters = settings, parameters
        self._views, self._layout = layout.views(parameters), layout
        self.first = torch.zeros_like(parameters)
        self.second = torch.zeros_like(parameters) if settings.adaptive else parameters.new_zeros(0)
        self._scratch = torch.empty_like(parameters) if settings.adaptive else parameters.new_zeros(0)
        self._scratch_views = layout.views(self._scratch) if settings.adaptive else []
        self.steps = np.zeros(layout.rows, dtype=np.int64)

    def moments(self) -> list[Tensor]:
        """The flat tensors of its state."""
        return [self.first, self.second] if self._settings.adaptive else [self.first]

    def step(self, gradients: Tensor, lr: Array, measure: bool = False) -> Tensor | None:
        """Update every row with its `lr` (r,). `gradients` are flat, and may be overwritten.

        Returns:
            the norm (P, r) of every parameter's update, if `measure`. It follows from the direction of the update,
            which costs less than keeping a copy of the parameters and is not rounded as their difference is.
        """
        settings = self._settings
        self.steps += 1
        if settings.decay and not settings.decoupled:
            gradients.add_(self._parameters, alpha=settings.decay)
        direction, rate = self._adam(gradients, lr) if settings.adaptive else self._sgd(gradients, lr)
        directions, moved = self._layout.views(direction), None
        shrink = lr * settings.decay if settings.decoupled else None
        if measure:
            moved = self._update_norm(directions, rate, shrink)
        if shrink is not None:
            for view, factor in zip(self._views, self._columns(1.0 - shrink), strict=True):
                view.mul_(factor)
        for view, along, column in zip(self._views, directions, self._columns(-rate), strict=True):
            view.addcmul_(along, column)
        return moved

    def _sgd(self, gradients: Tensor, lr: Array) -> tuple[Tensor, Array]:
        """Direction (flat) and rate (r,) of the step."""
        momentum = self._settings.first_decay
        torch.add(gradients, self.first, alpha=momentum, out=self.first)
        if self._settings.nesterov:
            return gradients.add_(self.first, alpha=momentum), lr
        return self.first, lr

    def _adam(self, gradients: Tensor, lr: Array) -> tuple[Tensor, Array]:
        settings = self._settings
        self.first.lerp_(gradients, 1.0 - settings.first_decay)
        self.second.mul_(settings.second_decay).addcmul_(gradients, gradients, value=1.0 - settings.second_decay)
        second_correction = np.sqrt(1.0 - settings.second_decay**self.steps)
        # Roots of zeros (padding, dead units) and of subnormal numbers take up to 30 times as long as others.
        torch.add(self.second, TINY, out=self._scratch).sqrt_()
        # (sqrt(v) / c + eps) * c, so that one pass over all elements less is needed.
        for view, eps in zip(self._scratch_views, self._columns(settings.eps * second_correction), strict=True):
            view.add_(eps)
        torch.div(self.first, self._scratch, out=self._scratch)
        return self._scratch, lr * second_correction / (1.0 - settings.first_decay**self.steps)

    def _update_norm(self, directions: list[Tensor], rate: Array, shrink: Array | None) -> Tensor:
        """(P, r) |rate * direction + shrink * parameter| of every row, parameter by parameter."""
        along = parameter_norms(directions).double() * torch.from_numpy(rate).to(self._parameters.device)
        if shrink is None:
            return along
        aside = parameter_norms(self._views).double() * torch.from_numpy(shrink).to(along)
        product = parameter_products(directions, self._views).double() * torch.from_numpy(rate * shrink).to(along)
        return (along.square() + 2.0 * product + aside.square()).clamp(min=0.0).sqrt()

    def _columns(self, values: Array) -> list[Tensor]:
        """`values` (r,) shaped to multiply each (r, ...) parameter."""
        column = torch.from_numpy(values).to(self._parameters)
        return [column.view(-1, *[1] * (view.ndim - 1)) for view in self._views]

    def state_dict(self) -> State:
        """Moments and step counts of all rows, copied."""
        return {"moments": [moment.clone() for moment in self.moments()], "steps": self.steps.copy()}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        for mine, saved in zip(self.moments(), state["moments"], strict=True):
            mine.copy_(saved)
        self.steps = state["steps"].copy()
