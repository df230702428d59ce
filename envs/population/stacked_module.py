"""Any stateless module, many times side by side, by `torch.func`."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlsched.envs.population.layout import Layout


class StackedModule:
    """R modules of one structure: a `Network` whose passes are `torch.vmap` over a stack of parameters.

    The rows are independent, so the gradient of the sum of all rows' losses holds the gradient of each row:
    one reverse pass over batched operations, instead of a `vmap` over reverse passes.

    Args:
        models: of each row, equal but for the values of their parameters and buffers (see `structure`).
        loss: per-example losses (B,) of a module on a batch.
        device: where to compute.
    """

    def __init__(
        self, models: Sequence[nn.Module], loss: Callable[[nn.Module, Any], Tensor], device: torch.device
    ) -> None:
        self._template = _WithLoss(copy.deepcopy(models[0]), loss).to(device).requires_grad_(False)
        self.dtype, self.device = next(models[0].parameters()).dtype, device
        named = dict(self._template.named_parameters())
        self._names = list(named)
        self.layout = Layout(len(models), [parameter.shape for parameter in named.values()])
        self.parameters = self.layout.zeros(self.dtype, device)
        self.gradients = self.layout.zeros(self.dtype, device)
        # Leaves that share their storage with `parameters`: autograd through slices of one tensor would
        # write a tensor of the whole's size for each of them.
        self._leaves = [view.detach().requires_grad_() for view in self.layout.views(self.parameters)]
        self._gradient_views = self.layout.views(self.gradients)
        self._buffers = _differing_buffers(models, device)
        self._call = torch.vmap(self._losses_of_one, randomness="error")

    def row(self, flat: Tensor, row: int) -> list[Tensor]:
        """Parameters of one row: views."""
        return [view[row] for view in self.layout.views(flat)]

    def load(self, row: int, model: nn.Module) -> None:
        """Copy the parameters of `model` into `row`."""
        with torch.no_grad():
            for mine, theirs in zip(self.row(self.parameters, row), model.parameters(), strict=True):
                mine.copy_(theirs)

    def pad(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The tensors of a row, floats in the type of the parameters."""
        return tuple(
            values.to(self.device, self.dtype if values.is_floating_point() else values.dtype)
            for values in tensors
        )

    def losses(self, batch: Sequence[Tensor]) -> Tensor:
        """See `Network`."""
        self._template.eval()
        with torch.no_grad():
            return self._call(tuple(self._leaves), self._buffers, tuple(batch))

    def backward(self, batch: Sequence[Tensor], weights: Tensor) -> Tensor:
        """See `Network`."""
        self._template.train()
        losses: Tensor = self._call(tuple(self._leaves), self._buffers, tuple(batch))
        gradients = torch.autograd.grad((losses * weights).sum(), self._leaves, materialize_grads=True)
        torch._foreach_copy_(self._gradient_views, list(gradients))
        return losses.detach()

    def _losses_of_one(
        self, parameters: tuple[Tensor, ...], buffers: dict[str, Tensor], batch: tuple[Tensor, ...]
    ) -> Any:
        values = dict(zip(self._names, parameters, strict=True)) | buffers
        return torch.func.functional_call(self._template, values, (list(batch),))


class _WithLoss(nn.Module):
    """A model and its loss as one module, so that the loss may use any part of the model."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: list[Tensor]) -> Tensor:
        return self._loss(self.model, batch)


def _differing_buffers(models: Sequence[nn.Module], device: torch.device) -> dict[str, Tensor]:
    """The buffers (R, ...) in which the rows differ; what is equal (masks, positions) stays one for all."""
    first, stacked = dict(models[0].named_buffers()), {}
    for name, buffer in first.items():
        values = [model.get_buffer(name) for model in models]
        if not all(torch.equal(buffer, other) for other in values):
            stacked[f"model.{name}"] = torch.stack(values).to(device)
    return stacked


def why_not(model: nn.Module) -> str | None:
    """What in `model` cannot be stacked, naming the layer; None if nothing is known to be in the way."""
    for name, module in model.named_modules():
        where = f"model.{name} ({type(module).__name__})" if name else type(module).__name__
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            return f"{where} keeps batch statistics"
        if isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats:
            return f"{where} keeps running statistics"
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            return f"{where} draws random numbers"
        if isinstance(module, nn.RNNBase):
            return f"{where} is a fused recurrence that torch.vmap cannot batch"
    if any(not parameter.requires_grad for parameter in model.parameters()):
        frozen = next(name for name, parameter in model.named_parameters() if not parameter.requires_grad)
        return f"model.{frozen} is frozen"
    return None


def structure(model: nn.Module) -> Hashable:
    """What two models must agree in to be rows of one stack: all but the values of parameters and buffers."""
    modules = tuple(
        (name, type(module), tuple((key, _plain(value)) for key, value in sorted(_attributes(module).items())))
        for name, module in model.named_modules()
    )
    parameters = tuple((name, tuple(p.shape), p.dtype) for name, p in model.named_parameters())
    buffers = tuple((name, tuple(b.shape), b.dtype) for name, b in model.named_buffers())
    return modules, parameters, buffers


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {key: value for key, value in vars(module).items() if not key.startswith("_") and key != "training"}


def _plain(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return tuple(value.shape), hashlib.sha256(value.detach().cpu().numpy().tobytes()).hexdigest()
    return repr(value)
