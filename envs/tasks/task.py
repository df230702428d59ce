"""What a training task is, and what a family of tasks must offer."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset, TensorDataset

from rlsched import Buckets, _check
from rlsched.contract import Array
from rlsched.envs.tasks.optimizers import OPTIMIZERS
from rlsched.envs.tasks.stages import Stages

BUCKETINGS = ("difficulty", "domain", "online")

ConfigT = TypeVar("ConfigT", bound="TaskConfig")


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The settings every task has; families add their own. Plain and picklable.

    Attributes:
        data_seed: decides the data: which examples, which labels are noise, how they are split.
        num_steps: optimizer steps of the run.
        num_decisions: decisions after the opening.
        batch_size: examples per step.
        optimizer: one of `optimizers`.
        base_lr: the base learning rate, however misjudged.
        curriculum: whether bucket weights act in this task.
        feedback: whether validation losses are reported to the policy.
        batch_size_known: whether the policy is told the batch size; a user's scheduler may not be.
        epochs_known: whether it is told how often the run passes over its data, where no sampler tells it.
        num_buckets: buckets K.
        bucket_by: what makes a bucket: "difficulty" (scores before the run), "domain" (where examples come
            from), or "online" (the running loss of each example, see `rlsched.OnlineBuckets`).
        probed: whether bucket losses are measured on a fixed probe of each bucket at every decision, or are
            those of the examples that were drawn.
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
    epochs_known: bool = False
    num_buckets: int = 4
    bucket_by: str = "difficulty"
    probed: bool = False

    shared: ClassVar[tuple[str, ...]] = ("num_steps", "num_decisions", "batch_size", "optimizer")
    """Settings in which runs must agree to be computed together without waste."""

    optimizers: ClassVar[Collection[str]] = tuple(OPTIMIZERS)
    """What `optimizer` may be."""

    def __post_init__(self) -> None:
        _check.integer("data_seed", self.data_seed, 0)
        _check.integer("num_steps", self.num_steps, 2)
        _check.integer("num_decisions", self.num_decisions, 1, self.num_steps - 1)
        _check.integer("batch_size", self.batch_size, 1)
        _check.choice("optimizer", self.optimizer, self.optimizers)
        _check.real("base_lr", self.base_lr, 0.0)
        _check.integer("num_buckets", self.num_buckets, 1)
        _check.choice("bucket_by", self.bucket_by, BUCKETINGS)


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
        buckets: partition of `train`; the first one, if it is refreshed during the run.
        online: whether the partition is refreshed at every decision, as `rlsched.OnlineBuckets` does.
        probe: (P,) training examples on which bucket losses are measured at every decision; None: on the
            examples drawn.
        drifted: what `train` is before step `drift_until`, example by example: the distribution shifts
            during the run. None: it does not.
        drift_until: step from which on `train` itself is in use.
        stages: when each bucket may be drawn, if they are learned one after the other. None: at any time.

    Raises:
        ValueError: the data are smaller than a batch, not finite, or not those that the buckets partition.
    """

    config: TaskConfig
    make_model: Callable[[torch.Generator], nn.Module]
    make_optimizer: Callable[[nn.Module], Optimizer]
    loss: Callable[[nn.Module, Any], Tensor]
    train: Dataset[Any]
    validation: Any
    test: Any
    buckets: Buckets
    online: bool = False
    probe: Array | None = None
    drifted: Dataset[Any] | None = None
    drift_until: int = 0
    stages: Stages | None = None

    def __post_init__(self) -> None:
        size = len(self.train)  # type: ignore[arg-type]
        if size < self.config.batch_size:
            raise ValueError(
                f"train must hold at least a batch of {self.config.batch_size} examples, has {size}: "
                "lower batch_size, or give more data."
            )
        if size != len(self.buckets):
            raise ValueError(
                f"buckets must have one entry per training example ({size}), has {len(self.buckets)}."
            )
        if not self.buckets.sizes.all():
            empty = int(np.argmin(self.buckets.sizes))
            raise ValueError(f"buckets must hold at least one example each, bucket {empty} is empty.")
        if self.drifted is not None and len(self.drifted) != size:  # type: ignore[arg-type]
            raise ValueError(f"drifted must have as many examples as train ({size}).")
        if self.stages is not None:
            if self.online:
                raise ValueError("online must be False in a task with stages: their buckets do not change.")
            self.stages.check(self.buckets)
        for name in ("train", "drifted", "validation", "test"):
            for values in _tensors(getattr(self, name)):
                if len(values) == 0:
                    raise ValueError(f"{name} is empty: give it at least one example.")
                if values.is_floating_point() and not bool(torch.isfinite(values).all()):
                    raise ValueError(f"{name} must be finite, holds NaN or inf: clean the data first.")

    @property
    def epochs(self) -> float:
        """Passes over the training data that a run makes."""
        return self.config.num_steps * self.config.batch_size / len(self.buckets)

    def with_decisions(self, most: int) -> Task:
        """The same task with `most` decisions, if it has more: a schedule that needs no telemetry runs faster."""
        if self.config.num_decisions <= most:
            return self
        return dataclasses.replace(self, config=dataclasses.replace(self.config, num_decisions=most))

    def with_base_lr(self, lr: float) -> Task:
        """The same task from base learning rate `lr` of its first parameter group; others keep their ratio."""
        make = functools.partial(_at_base_lr, self.make_optimizer, lr / self.config.base_lr)
        config = dataclasses.replace(self.config, base_lr=lr)
        return dataclasses.replace(self, config=config, make_optimizer=make)

    def with_curriculum(self, acts: bool) -> Task:
        """The same task, in which bucket weights act or do not."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, curriculum=acts))


class TaskFamily(ABC):
    """A distribution of tasks."""

    num_buckets: int
    """Buckets K of every task of the family."""

    config_type: ClassVar[type[TaskConfig]] = TaskConfig
    """Type of the settings that `sample` draws and `build` takes."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> TaskConfig:
        """Settings of one task, drawn from `rng` alone."""

    @abstractmethod
    def build(self, config: TaskConfig) -> Task:
        """The task; the same one for the same settings."""

    def sensible_lr(self, config: TaskConfig) -> float:
        """A base learning rate about right for tasks like that of `config`, which a search may start from."""
        return config.base_lr

    def builds(self, config: TaskConfig) -> bool:
        """Whether `config` is one of this family's."""
        return isinstance(config, self.config_type)

    def sample_like(self, rng: np.random.Generator, first: TaskConfig) -> TaskConfig:
        """Settings of one task that can be computed together with `first`, a task of this family.

        It draws from `rng` what `sample` does, and then agrees with `first` in `shared`.
        """
        return dataclasses.replace(self.sample(rng), **{name: getattr(first, name) for name in first.shared})


def expect(config: TaskConfig, kind: type[ConfigT]) -> ConfigT:
    """`config` if it is a `kind`, for the `build` of a family.

    Raises:
        TypeError: it is of another type.
    """
    if not isinstance(config, kind):
        raise TypeError(
            f"config must be of type {kind.__name__}, got {type(config).__name__}: "
            "build a task with the family that its settings were drawn by."
        )
    return config


def check_family(tasks: Any) -> TaskFamily:
    """`tasks`, if it is a family whose tasks can be built; else an error that says what is wrong."""
    if not isinstance(tasks, TaskFamily):
        found = f"the class {tasks.__name__}" if isinstance(tasks, type) else type(tasks).__name__
        raise TypeError(f"tasks must be a TaskFamily, got {found}: give for example rlsched.envs.tasks.Digits().")
    _check.integer("tasks.num_buckets", tasks.num_buckets, 1)
    task = tasks.build(tasks.sample(np.random.default_rng(0)))
    if task.buckets.count != tasks.num_buckets:
        raise ValueError(
            f"task must have {tasks.num_buckets} buckets, as its family says, got {task.buckets.count}."
        )
    return tasks


def _at_base_lr(make: Callable[[nn.Module], Optimizer], factor: float, model: nn.Module) -> Optimizer:
    optimizer = make(model)
    for group in optimizer.param_groups:
        group["lr"] *= factor
    return optimizer


def _tensors(part: Any) -> list[Tensor]:
    """The tensors of a batch or data set, as far as they can be seen without drawing examples."""
    if isinstance(part, TensorDataset):
        return list(part.tensors)
    if isinstance(part, Tensor):
        return [part]
    return [values for values in part if isinstance(values, Tensor)] if isinstance(part, (tuple, list)) else []
