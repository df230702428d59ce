"""Why a run cannot be stacked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import TensorDataset

from rlsched.envs.tasks.task import Task
from rlsched.envs.torch_run import MEASURED_ELEMENTS

_MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


def why_not(task: Task, model: nn.Module, optimizer: Optimizer) -> str | None:
    """All that is in the way of stacking a run of `task`, naming layers and remedies; None if nothing known is."""
    return "; ".join([*_data(task), *_optimizer(model, optimizer), *_model(model)]) or None


def _data(task: Task) -> Iterator[str]:
    for part in (task.train, task.drifted):
        # A subclass may do something to each example.
        if part is not None and type(part).__getitem__ is not TensorDataset.__getitem__:
            yield f"its data set is not a TensorDataset, but a {type(part).__name__} (give a tuple of tensors)"
            return
    assert isinstance(task.train, TensorDataset)
    for name in ("validation", "test"):
        if not _like(getattr(task, name), task.train.tensors):
            yield f"its {name} data are not tensors like its training data"


def _like(batch: Any, tensors: tuple[Tensor, ...]) -> bool:
    if not isinstance(batch, (tuple, list)) or len(batch) != len(tensors):
        return False
    return all(
        isinstance(held, Tensor) and (held.shape[1:], held.dtype) == (trained.shape[1:], trained.dtype)
        for held, trained in zip(batch, tensors, strict=True)
    )


def _optimizer(model: nn.Module, optimizer: Optimizer) -> Iterator[str]:
    parameters = list(model.parameters())
    if len({parameter.dtype for parameter in parameters}) != 1:
        yield "its parameters are not of one type"
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if frozen:
        yield f"model.{frozen[0]} is frozen"
    elif optimized != {id(parameter) for parameter in parameters}:
        yield "its optimizer does not train exactly the parameters of its model"
    if sum(parameter.numel() for parameter in parameters) > MEASURED_ELEMENTS:
        yield f"it has more than {MEASURED_ELEMENTS} parameters"
    if _any(optimizer, _OPTIMIZER_HOOKS) or any(_any(parameter, _PARAMETER_HOOKS) for parameter in parameters):
        yield "its optimizer or parameters have hooks"


def _model(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        where = f"model.{name} ({type(module).__name__})" if name else type(module).__name__
        if _any(module, _MODULE_HOOKS):
            yield f"{where} has hooks"
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            yield f"{where} uses batch statistics (use LayerNorm or GroupNorm)"
        if isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats:
            yield f"{where} keeps running statistics (turn track_running_stats off)"
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            yield f"{where} draws random numbers (leave it out)"
        if isinstance(module, nn.RNNBase):
            yield f"{where} is a fused recurrence (write it as a loop over time)"


def _any(holder: Any, names: tuple[str, ...]) -> bool:
    return any(getattr(holder, name, None) for name in names)
