"""Learning rates of an optimizer's parameter groups."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from torch import Tensor
from torch.optim import ASGD, SGD, Optimizer

from rlsched.contract import Array

Rate = float | Tensor
"""A learning rate; PyTorch lets it be a tensor, which is then filled in place."""


def base_rates(optimizer: Optimizer, first: int) -> list[Rate]:
    """The base learning rates of the groups from `first` on: their `initial_lr`, set here where it is missing."""
    bases: list[Rate] = []
    for group in optimizer.param_groups[first:]:
        group.setdefault("initial_lr", _copy(group["lr"]))
        bases.append(group["initial_lr"])
    return bases


def scaled(bases: Sequence[Rate], lr_scale: float, group_scale: Array | None) -> list[Rate]:
    """`base * lr_scale * group_scale` of each group; without `group_scale`, or beyond its end, that is 1."""
    rates = [base * lr_scale for base in bases]
    if group_scale is None:
        return rates
    return [rate * factor for rate, factor in zip_longest(rates, group_scale.tolist(), fillvalue=1.0)]


def set_rates(optimizer: Optimizer, rates: Sequence[Rate]) -> list[Rate]:
    """Set the learning rate of each group; returns copies of what was set."""
    copies: list[Rate] = []
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            copies.append(group["lr"].fill_(float(rate)).clone())
        else:
            group["lr"] = float(rate)
            copies.append(group["lr"])
    return copies


def changed_elsewhere(optimizer: Optimizer, rates: Sequence[Rate]) -> bool:
    """Whether a group's learning rate is not what was last set."""
    groups = optimizer.param_groups[: len(rates)]
    return any(float(group["lr"]) != float(rate) for group, rate in zip(groups, rates, strict=True))


def is_adaptive(optimizer: Optimizer) -> bool:
    """Whether the optimizer counts as one of Adam's kind: all but plain (momentum, averaged) SGD do."""
    return not isinstance(optimizer, SGD | ASGD)


def _copy(rate: Rate) -> Rate:
    return rate.clone() if isinstance(rate, Tensor) else rate
