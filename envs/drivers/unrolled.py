"""Training as a differentiable function of its learning rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlsched.contract import Array
from rlsched.envs.data_order import DataOrder
from rlsched.envs.population.stackable import why_not
from rlsched.envs.population.stacked_module import WithLoss
from rlsched.envs.population.stacked_optimizer import TINY, OptimizerSettings
from rlsched.envs.tasks.task import Task
from rlsched.envs.torch_run import run_seeds

State = list[Tensor]
"""Parameters, then first moments, then Adam's second moments."""


class Unrolled:
    """A run over the natural mixture: its validation loss as a differentiable function of (T,) learning rates.

    It is the run that `TorchRun` trains, except that buckets which follow the losses are not renewed. The gradient
    goes backwards through the steps. States are kept only at the beginnings of sqrt(T) stretches; each stretch is
    trained once more, with its graph, when its turn comes, so that memory grows with sqrt(T) and a gradient costs
    twice the steps of a run (Engstrom et al. 2025 have a tree of such stretches, for memory of log T).

    Args:
        task: of what `Population` could stack: in-memory data, one group of parameters, SGD, Adam or AdamW, and a
            module that neither draws random numbers nor keeps state.
        seed: of model and data order.

    Attributes:
        steps: optimizer steps done so far in all calls.
    """

    def __init__(self, task: Task, seed: int) -> None:
        model_seed, draw_seed, _ = run_seeds(seed)
        model = task.make_model(torch.Generator().manual_seed(model_seed))
        optimizer = task.make_optimizer(model)
        settings, reason = OptimizerSettings.of(optimizer), why_not(task, model, optimizer)
        if isinstance(settings, str) or reason:
            reason = settings if isinstance(settings, str) else reason
            raise ValueError(f"the task's training cannot be differentiated: {reason}. Give a task without that.")
        self._task, self._settings, self.steps = task, settings, 0
        self.base_lr = float(optimizer.param_groups[0]["lr"])
        self._model = WithLoss(model.requires_grad_(False), task.loss)
        named = dict(self._model.named_parameters())
        self._names, self._weights = list(named), [value.detach().clone() for value in named.values()]
        draws = DataOrder(task, draw_seed).draws
        self._indices, _ = draws.draw(task.buckets.shares, task.config.num_steps)

    def loss(self, lr: Array) -> float:
        """Validation loss after training with learning rates `lr` (T,); not finite if it diverged."""
        return float(self._validation(self._train(lr)[-1]).detach())

    def gradient(self, lr: Array) -> tuple[float, Array]:
        """`loss` and its derivatives (T,) with respect to each learning rate."""
        rates = torch.from_numpy(np.asarray(lr, dtype=np.float64)).to(self._weights[0])
        states = self._train(lr)
        end = [tensor.detach().requires_grad_() for tensor in states[-1]]
        loss = self._validation(end)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value, np.full(len(lr), np.nan)
        adjoint = list(torch.autograd.grad(loss, end, allow_unused=True, materialize_grads=True))
        slopes = []
        for start, begin in reversed(list(zip(self._starts(), states, strict=False))):
            inputs = [tensor.detach().requires_grad_() for tensor in begin]
            rate = rates[start : start + self._stretch].detach().requires_grad_()
            outputs = self._advance(inputs, rate, start, graph=True)
            *adjoint, slope = torch.autograd.grad(
                outputs, [*inputs, rate], adjoint, allow_unused=True, materialize_grads=True
            )
            slopes.append(slope)
        return value, torch.cat(slopes[::-1]).double().numpy()

    @property
    def _stretch(self) -> int:
        return max(1, math.isqrt(len(self._indices)))

    def _starts(self) -> range:
        return range(0, len(self._indices), self._stretch)

    def _train(self, lr: Array) -> list[State]:
        """The states at the beginnings of all stretches, and at the end."""
        rates = torch.from_numpy(np.asarray(lr, dtype=np.float64)).to(self._weights[0])
        moments = [
            torch.zeros_like(weight) for _ in range(1 + self._settings.adaptive) for weight in self._weights
        ]
        states = [[*self._weights, *moments]]
        for start in self._starts():
            states.append(self._advance(states[-1], rates[start : start + self._stretch], start, graph=False))
        return states

    def _advance(self, state: State, rates: Tensor, start: int, *, graph: bool) -> State:
        """The state after the steps from `start` on, one at each of `rates`."""
        self._model.train()
        for offset, rate in enumerate(rates):
            weights = state[: len(self._weights)]
            if not graph:
                weights = [weight.detach().requires_grad_() for weight in weights]
            loss = self._losses(weights, self._batch(start + offset)).mean()
            gradients = torch.autograd.grad(loss, weights, create_graph=graph)
            with torch.set_grad_enabled(graph):
                state = update(self._settings, state, gradients, rate, start + offset + 1)
            self.steps += 1
        return state

    def _batch(self, step: int) -> Any:
        drifted, until = self._task.drifted, self._task.drift_until
        data: Any = drifted if drifted is not None and step < until else self._task.train
        index = torch.from_numpy(self._indices[step])
        return [values[index] for values in data.tensors]

    def _losses(self, weights: Sequence[Tensor], batch: Any) -> Tensor:
        values = dict(zip(self._names, weights, strict=True))
        losses: Tensor = torch.func.functional_call(self._model, values, (batch,))
        return losses

    def _validation(self, state: State) -> Tensor:
        self._model.eval()
        return self._losses(state[: len(self._weights)], self._task.validation).mean()


def update(settings: OptimizerSettings, state: State, gradients: Sequence[Tensor], lr: Tensor, step: int) -> State:
    """The state after optimizer step number `step` (from 1); the formulas are those of `StackedOptimizer`."""
    count, s = len(gradients), settings
    weights, first, second = state[:count], state[count : 2 * count], state[2 * count :]
    if s.decay and not s.decoupled:
        gradients = [gradient + s.decay * weight for gradient, weight in zip(gradients, weights, strict=True)]
    if s.decoupled:
        weights = [weight * (1.0 - lr * s.decay) for weight in weights]
    if not s.adaptive:
        first = [s.first_decay * m + g for m, g in zip(first, gradients, strict=True)]
        moves = [g + s.first_decay * m for m, g in zip(first, gradients, strict=True)] if s.nesterov else first
    else:
        first = [m.lerp(g, 1.0 - s.first_decay) for m, g in zip(first, gradients, strict=True)]
        second = [
            s.second_decay * v + (1.0 - s.second_decay) * g * g for v, g in zip(second, gradients, strict=True)
        ]
        bias, root = 1.0 - s.first_decay**step, math.sqrt(1.0 - s.second_decay**step)
        # The root of zero has no derivative.
        moves = [m / bias / ((v + TINY).sqrt() / root + s.eps) for m, v in zip(first, second, strict=True)]
    return [*(weight - lr * move for weight, move in zip(weights, moves, strict=True)), *first, *second]
