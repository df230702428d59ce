"""What a training task is, and what a family of tasks must offer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset, TensorDataset

from rlsched import Buckets, _check


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The settings every task has; families add their own. Plain and picklable.

    Attributes:
        data_seed: decides the data: which examples, which labels are noise, how they are split.
        num_steps: optimizer steps of the run.
        num_decisions: decisions after the opening.
        batch_size: examples per step.
        optimizer: "sgd" (momentum 0.9), "adam" or "adamw".
        base_lr: the base learning rate, however misjudged.
        curriculum: whether bucket weights act in this task.
        feedback: whether validation losses are reported to the policy.
        batch_size_known: whether the policy is told the batch size; a user's scheduler may not be.
        num_buckets: buckets by difficulty.
    """

    data_seed: int
    num_steps: int
    num_decisions: int
    batch_size: int
    optimizer: str
    base_lr: float
    curriculum: bool = True
    feedback: bool = False
    batch_size_known: bool = True
    num_buckets: int = 4

    def __post_init__(self) -> None:
        _check.integer("data_seed", self.data_seed, 0)
        _check.integer("num_steps", self.num_steps, 2)
        _check.integer("num_decisions", self.num_decisions, 1, self.num_steps - 1)
        _check.integer("batch_size", self.batch_size, 1)
        _check.choice("optimizer", self.optimizer, OPTIMIZERS)
        _check.real("base_lr", self.base_lr, 0.0)
        _check.integer("num_buckets", self.num_buckets, 1)


@dataclass(frozen=True, eq=False)
class Task:
    """A task ready to be trained on. Training, validation and test data are disjoint.

    Attributes:
        config: what it was built from.
        make_model: a fresh model, its weights drawn from the generator.
        make_optimizer: the optimizer of a model's parameters, at the base learning rate.
        loss: per-example losses (B,) of a model on a batch (as collated from the data set).
        train: map-style data set.
        validation: batch for the reward and the optional feedback.
        test: batch for the evaluation alone.
        buckets: partition of `train`.
    """

    config: TaskConfig
    make_model: Callable[[torch.Generator], nn.Module]
    make_optimizer: Callable[[nn.Module], Optimizer]
    loss: Callable[[nn.Module, Any], Tensor]
    train: Dataset[Any]
    validation: Any
    test: Any
    buckets: Buckets


class TaskFamily(Protocol):
    """A distribution of tasks."""

    @property
    def num_buckets(self) -> int:
        """Buckets K of every task of the family."""
        ...

    def sample(self, rng: np.random.Generator) -> TaskConfig:
        """Settings of one task, drawn from `rng` alone."""
        ...

    def build(self, config: TaskConfig) -> Task:
        """The task; the same one for the same settings."""
        ...


def make_optimizer(config: TaskConfig, model: nn.Module) -> Optimizer:
    """The optimizer that `config` names, at its base learning rate."""
    return OPTIMIZERS[config.optimizer](model.parameters(), config.base_lr)


OPTIMIZERS: dict[str, Callable[[Any, float], Optimizer]] = {
    # Fused steps are about three times as fast as the default ones on networks of this size.
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, fused=True),
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, fused=True),
    "adamw": lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr, fused=True),
}


def mlp(sizes: list[int], activation: type[nn.Module], generator: torch.Generator) -> nn.Sequential:
    """A multilayer perceptron with torch's default initialisation, drawn from `generator`.

    Weights and biases of a layer with n inputs are uniform in [-1/sqrt(n), 1/sqrt(n)].
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)
        layers += [layer, activation()]
    return nn.Sequential(*layers[:-1])


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Per-example cross-entropy (B,), nats."""
    features, labels = batch
    return nn.functional.cross_entropy(model(features), labels, reduction="none")


def tensors(features: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """A classification batch: float32 features, int64 labels."""
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)


def dataset(features: np.ndarray, labels: np.ndarray) -> TensorDataset:
    """The same as a map-style data set."""
    return TensorDataset(*tensors(features, labels))
