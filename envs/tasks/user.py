"""Tasks of a user's own: one function that returns a model, data, a loss and an optimizer."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset, TensorDataset

from rlsched import Buckets, OnlineBuckets, _check
from rlsched.collate import collate
from rlsched.contract import Array
from rlsched.envs.tasks.blame import blame
from rlsched.envs.tasks.data import log_uniform
from rlsched.envs.tasks.fresh import fresh_copy
from rlsched.envs.tasks.task import Task, TaskConfig, TaskFamily, expect
from rlsched.randomness import Randomness

Data = Dataset[Any] | tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class UserTask:
    """What a user's function returns.

    Attributes:
        model: a module, which is copied for each run and never changed, or a function of a `torch.Generator` that
            returns a new one. The copies of a module get new weights by their layers' `reset_parameters`, as far
            as they have any, unless `reset` is off.
        train: map-style data set, or tensors with one entry per example.
        validation: the same; it is evaluated in one batch.
        loss: per-example losses (B,) of a model on a batch, as a `DataLoader` would collate it.
        optimizer: of a model, at the learning rates meant for it.
        num_steps: optimizer steps of a run, at least 2.
        num_decisions: decisions after the opening; fewer where there are too few steps.
        batch_size: examples per step.
        test: as `validation`, for the evaluation alone. Default: half of the validation data, taken from them.
        scores: (n,) difficulty of each training example, for buckets by difficulty.
        buckets: of the training examples, if there are given ones. Without either they follow the losses.
        reset: whether the weights of a `model` that is a module are drawn anew for each run.
    """

    model: nn.Module | Callable[[torch.Generator], nn.Module]
    train: Data
    validation: Data
    loss: Callable[[nn.Module, Any], Tensor]
    optimizer: Callable[[nn.Module], Optimizer]
    num_steps: int
    num_decisions: int = 20
    batch_size: int = 32
    test: Data | None = None
    scores: Array | None = None
    buckets: Buckets | None = None
    reset: bool = True


@dataclass(frozen=True, kw_only=True)
class UserConfig(TaskConfig):
    """One variation of a user's task. `base_lr` is that of the first parameter group; others keep their ratios.

    Attributes:
        function: name of the user's function.
    """

    function: str
    optimizer: str = "user"

    optimizers: ClassVar[tuple[str, ...]] = ("user",)


class UserFamily(TaskFamily):
    """Variations of one user's task: its seed, misjudged learning rates, feedback, curriculum and length.

    The function is called once when the family is made, to see that what it returns can be trained, and once
    more for every seed if it takes a `seed`. It may draw from the global generators of torch, NumPy and Python:
    these are seeded for the call and restored after it.

    Args:
        function: of no argument, or of `seed`, an integer; returns a `UserTask`. Settings refer to it by its
            module and name, so give it one if there are several in a mixture.
        num_buckets: buckets K; those of `UserTask.buckets` have to be as many.
        misjudged: largest factor between the base learning rate and the user's, in [1, 1e4].
        stretch: largest factor between the number of steps and the user's, in [1, 100].

    Raises:
        TypeError, ValueError: the function or what it returns cannot be used; the message says why.
    """

    config_type: ClassVar = UserConfig

    def __init__(
        self,
        function: Callable[..., UserTask],
        num_buckets: int = 4,
        misjudged: float = 100.0,
        stretch: float = 1.0,
    ) -> None:
        self.num_buckets = _check.integer("num_buckets", num_buckets, 1, 1000)
        self.misjudged = _check.real("misjudged", misjudged, 1.0, 1e4)
        self.stretch = _check.real("stretch", stretch, 1.0, 100.0)
        if not callable(function):
            raise TypeError(f"function must be callable, got {type(function).__name__}.")
        self.function = function
        # Partial functions and other callables have no name of their own.
        self.name = f"{function.__module__}:{getattr(function, '__qualname__', repr(function))}"
        parameters = inspect.signature(function).parameters.values()
        needed = [
            p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]
        self._seeded = "seed" in (p.name for p in parameters)
        if set(needed) - {"seed"}:
            raise TypeError(f"{self.name} must take no argument, or a seed alone, needs {', '.join(needed)}.")
        user = self._call(0)
        self._num_steps = _check.integer("num_steps", user.num_steps, 2)
        self._num_decisions = _check.integer("num_decisions", user.num_decisions, 1)
        self._num_decisions = min(self._num_decisions, self._num_steps - 1)
        self._base_lr = _base_lr(self._optimizer_of(user))
        self._given: dict[str, Any] = {
            "num_decisions": self._num_decisions,
            "batch_size": user.batch_size,
            "bucket_by": "domain" if user.buckets else "difficulty" if user.scores is not None else "online",
        }
        self._try(self.build(self.sample(np.random.default_rng(0))))

    def sample(self, rng: np.random.Generator) -> UserConfig:
        """Settings of one variation."""
        decades = math.log10(self.misjudged)
        num_steps = round(self._num_steps * log_uniform(rng, 1 / self.stretch, self.stretch))
        return UserConfig(
            **self._given,
            function=self.name,
            data_seed=int(rng.integers(2**31)),
            num_steps=max(num_steps, self._num_decisions + 1),
            base_lr=self._base_lr * 10 ** rng.uniform(-decades, decades),
            curriculum=bool(rng.random() < 0.75),
            feedback=bool(rng.random() < 0.5),
            batch_size_known=bool(rng.random() < 0.75),
            epochs_known=bool(rng.random() < 0.5),
            num_buckets=self.num_buckets,
        )

    def builds(self, config: TaskConfig) -> bool:
        """Whether `config` is of this function: several may be in one mixture."""
        return isinstance(config, UserConfig) and config.function == self.name

    def sensible_lr(self, config: TaskConfig) -> float:
        """See `TaskFamily`: the user's own."""
        return self._base_lr

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `UserConfig` of the same function."""
        config = expect(config, UserConfig)
        if config.function != self.name:
            raise ValueError(f"config must be of the function {self.name}, got one of {config.function}.")
        user = self._call(config.data_seed if self._seeded else 0)
        # Data sets may draw random numbers: the same ones for the same settings.
        with Randomness(config.data_seed)():
            return self._assemble(user, config)

    def _assemble(self, user: UserTask, config: UserConfig) -> Task:
        train, validation = _dataset("train", user.train), _dataset("validation", user.validation)
        if user.test is None:
            # The same halves in every variation: no test example may be another one's validation.
            order = np.random.default_rng(0).permutation(_size("validation", validation, 2))
            held = collate(validation, order[: len(order) // 2])
            test = collate(validation, order[len(order) // 2 :])
        else:
            held, test = (
                collate(part, np.arange(_size(name, part, 1)))
                for name, part in (("validation", validation), ("test", _dataset("test", user.test)))
            )
        return Task(
            config=config,
            make_model=functools.partial(_make_model, user.model, user.reset),
            make_optimizer=functools.partial(_make_optimizer, user.optimizer, config.base_lr),
            loss=user.loss,
            train=train,
            validation=held,
            test=test,
            buckets=self._buckets(user, _size("train", train, user.batch_size), config),
            online=config.bucket_by == "online",
        )

    def __repr__(self) -> str:
        settings = f"num_buckets={self.num_buckets}, misjudged={self.misjudged}, stretch={self.stretch}"
        return f"UserFamily({self.name}, {settings})"

    def _buckets(self, user: UserTask, size: int, config: UserConfig) -> Buckets:
        if user.buckets is not None:
            if user.buckets.count != self.num_buckets:
                raise ValueError(f"num_buckets must be that of UserTask.buckets, {user.buckets.count}.")
            return user.buckets
        if user.scores is not None:
            return Buckets.from_scores(user.scores, self.num_buckets)
        return OnlineBuckets(size, self.num_buckets, seed=config.data_seed).buckets

    def _call(self, seed: int) -> UserTask:
        return _call(self.function, self.name, seed if self._seeded else None)

    def _optimizer_of(self, user: UserTask) -> Optimizer:
        if isinstance(user.optimizer, Optimizer):
            raise TypeError(
                f"{self.name}: optimizer must be a function of the model, got a {type(user.optimizer).__name__}: "
                "write lambda model: torch.optim.AdamW(model.parameters(), lr=...)."
            )
        with blame(self.name, "making the model"):
            model = _make_model(user.model, user.reset, torch.Generator().manual_seed(0))
        if not isinstance(model, nn.Module):
            raise TypeError(f"{self.name}: model must make an nn.Module, made a {type(model).__name__}.")
        with blame(self.name, "making the optimizer"):
            optimizer = user.optimizer(model)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{self.name}: optimizer must return a torch optimizer, returned a {type(optimizer).__name__}."
            )
        return optimizer

    def _try(self, task: Task) -> None:
        """The loss on each part, to find out now what would fail in the middle of a training."""
        size = task.config.batch_size
        model = task.make_model(torch.Generator().manual_seed(0))
        with Randomness(0)():
            with blame(self.name, "the loss on a training batch"):
                losses = task.loss(model, collate(task.train, np.arange(size)))
            self._check_losses(losses, size)
            model.eval()
            for part in ("validation", "test"):
                with blame(self.name, f"the loss on the {part} data"), torch.no_grad():
                    task.loss(model, getattr(task, part))
            self._check_apart(task, model)

    def _check_losses(self, losses: Any, size: int) -> None:
        if not isinstance(losses, Tensor) or losses.shape != (size,):
            found = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else type(losses).__name__
            raise ValueError(
                f"{self.name}: loss must return a tensor with one loss per example, shape ({size},), returned "
                f'{found}: pass reduction="none" to torch\'s losses.'
            )
        if not bool(torch.isfinite(losses).all()) or bool((losses < 0).any()):
            raise ValueError(
                f"{self.name}: loss must be finite and >= 0, returned {losses.min():.4g} to {losses.max():.4g}: "
                "a policy steers by ratios of losses. Add a constant if it has a lower bound."
            )
        if not losses.requires_grad:
            raise ValueError(f"{self.name}: loss must depend on the model's parameters, it has no gradient.")

    def _check_apart(self, task: Task, model: nn.Module) -> None:
        """Warn if an example's loss depends on the others, which is nearly always a mistake of broadcasting."""
        if task.config.batch_size < 2:
            return
        half = task.config.batch_size // 2
        with torch.no_grad(), blame(self.name, "the loss on a smaller batch"):
            with Randomness(0)():
                few = task.loss(model, collate(task.train, np.arange(half)))
            with Randomness(0)():
                many = task.loss(model, collate(task.train, np.arange(task.config.batch_size)))[:half]
        if not torch.allclose(few, many, rtol=1e-3, atol=1e-5):
            warnings.warn(
                f"{self.name}: the loss of an example depends on the others in its batch. If that is not meant, "
                "compare the shapes of predictions and targets: (B, 1) and (B,) broadcast to (B, B).",
                stacklevel=4,
            )


@functools.lru_cache(maxsize=8)
def _call(function: Callable[..., UserTask], name: str, seed: int | None) -> UserTask:
    with Randomness(seed or 0)(), blame(name, "calling it"):
        user = function() if seed is None else function(seed=seed)
    if not isinstance(user, UserTask):
        raise TypeError(f"{name} must return an rlsched.envs.tasks.UserTask, returned a {type(user).__name__}.")
    return user


def _make_model(model: Any, reset: bool, generator: torch.Generator) -> nn.Module:
    if isinstance(model, nn.Module):
        return fresh_copy(model, generator if reset else None)
    # A function may well use layers as they come, which draw from the global generator.
    with Randomness(int(torch.randint(2**31, (), generator=generator)))():
        made: nn.Module = model(generator)
    return made


def _make_optimizer(make: Callable[[nn.Module], Optimizer], base_lr: float, model: nn.Module) -> Optimizer:
    optimizer = make(model)
    factor = base_lr / _base_lr(optimizer)
    for group in optimizer.param_groups:
        group["lr"] *= factor
    return optimizer


def _base_lr(optimizer: Optimizer) -> float:
    return _check.real("the optimizer's first learning rate", float(optimizer.param_groups[0]["lr"]), 1e-12)


def _dataset(name: str, data: Any) -> Dataset[Any]:
    if isinstance(data, Tensor):
        raise TypeError(f"{name} must be a data set or a tuple of tensors, got one tensor: write ({name},).")
    if not isinstance(data, (tuple, list)):
        return data
    for values in data:
        if not isinstance(values, Tensor):
            raise TypeError(
                f"{name} must hold tensors, holds a {type(values).__name__}: wrap it by torch.as_tensor(...)."
            )
        if len(values) != len(data[0]):
            raise ValueError(f"{name} must hold tensors of one length, has {len(data[0])} and {len(values)}.")
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            row = int(torch.nonzero(~torch.isfinite(values))[0, 0])
            raise ValueError(f"{name} must be finite, holds NaN or inf in example {row}: clean the data first.")
    return TensorDataset(*data)


def _size(name: str, data: Dataset[Any], least: int) -> int:
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise TypeError(f"{name} must be a map-style data set or tensors, got {type(data).__name__}.")
    size = len(data)
    if size < least:
        raise ValueError(f"{name} must hold at least {least} examples, has {size}.")
    return size
