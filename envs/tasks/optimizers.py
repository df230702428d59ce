"""The optimizers of tasks: "sgd" has momentum 0.9, "plain_sgd" none; all else is torch's default."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from rlsched.envs.tasks.task import TaskConfig

OPTIMIZERS: dict[str, Callable[[Any, float], Optimizer]] = {
    # Fused steps are about three times as fast as the default ones on networks of this size.
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, fused=True),
    "plain_sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, fused=True),
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, fused=True),
    "adamw": lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr, fused=True),
}


def make_optimizer(config: TaskConfig, model: nn.Module) -> Optimizer:
    """The optimizer that `config` names, at its base learning rate."""
    return OPTIMIZERS[config.optimizer](model.parameters(), config.base_lr)
