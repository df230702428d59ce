"""Methods of other libraries: optimizers and schedulers that find a learning rate by themselves, and averaging."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from rlsched._check import ArgumentError
from rlsched.agents.rollouts import Setting, Weights
from rlsched.contract import Array, Controller
from rlsched.controllers import Constant, Linear
from rlsched.envs.population.eager_block import EagerBlock
from rlsched.envs.tasks import Task, TaskConfig
from rlsched.envs.torch_run import TorchRun
from rlsched.experiments.evaluation.comparators import FACTORS, Comparator, Ran, record
from rlsched.experiments.evaluation.extras import DogAverage, Extra, GreedyRate, ScheduleFree, TailAverage
from rlsched.rates import is_adaptive

CONSTANT = Constant()


@dataclass(frozen=True)
class Method:
    """A method of a library.

    Attributes:
        package: that has it, "module" or "module (pip name)".
        optimizer: made from the task's own at its base learning rate.
        extra: of a run's model, optimizer and task.
        controller: of the learning rate that the optimizer is given.
        tuned: whether that learning rate is tuned; if not, the method chooses by itself.
    """

    package: str = "torch"
    optimizer: Callable[[Optimizer], Optimizer] = lambda own: own
    extra: Callable[[nn.Module, Optimizer, TaskConfig], Extra] = lambda model, optimizer, config: Extra()
    controller: Controller = CONSTANT
    tuned: bool = True


@dataclass(frozen=True)
class Library(Comparator):
    """A method of `METHODS`, in eager loops."""

    name: str
    kind: str = "library"
    curriculum: bool = False

    @property
    def factors(self) -> tuple[float, ...]:  # type: ignore[override]
        """Those of the others if it is tuned."""
        return FACTORS if METHODS[self.name].tuned else (1.0,)

    def train(
        self, setting: Setting, weights: Weights, tasks: Sequence[Task], seeds: Sequence[int], whole: bool
    ) -> list[Ran]:
        method, ran = METHODS[self.name], []
        for task, seed in zip(tasks, seeds, strict=True):
            run = LibraryRun(task, method)
            run.reset(seed)
            ran += record(EagerBlock([run]), method.controller, [task], whole)
        return ran


class LibraryRun(TorchRun):
    """A `TorchRun` by a method: the same model and data order as without it."""

    def __init__(self, task: Task, method: Method) -> None:
        make = functools.partial(_make, method, task.make_optimizer)
        super().__init__(dataclasses.replace(task, make_optimizer=make), frozenset({"loss"}))
        self._method, self._extra = method, Extra()

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._extra = self._method.extra(self.model, self.optimizer, self.task.config)

    def _train_step(self, lr_scale: float, bucket_weights: Array) -> bool:
        finite = super()._train_step(lr_scale, bucket_weights)
        if finite:
            self._extra.after_step(self._step, float(self._seen[-1][1].mean()))
        if self._extra.sets_rate:
            self._base_lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        return finite

    def _losses_on(self, batch: Any) -> Tensor:
        with self._extra.shown():
            return super()._losses_on(batch)


def _make(method: Method, own: Callable[[nn.Module], Optimizer], model: nn.Module) -> Optimizer:
    return method.optimizer(own(model))


def _schedule_free(own: Optimizer) -> Optimizer:
    import schedulefree

    (group,) = own.param_groups
    if is_adaptive(own):
        made: Optimizer = schedulefree.AdamWScheduleFree(
            group["params"], lr=group["lr"], betas=group["betas"], weight_decay=group["weight_decay"]
        )
    else:
        # Its averaging stands for momentum, which multiplies the length of SGD's steps by 1 / (1 - momentum).
        lr = group["lr"] / (1.0 - group["momentum"])
        made = schedulefree.SGDScheduleFree(group["params"], lr=lr, weight_decay=group["weight_decay"])
    made.train()  # type: ignore[attr-defined]
    return made


def _dog(own: Optimizer) -> Optimizer:
    from dog import DoG

    (group,) = own.param_groups
    made: Optimizer = DoG(group["params"], weight_decay=group["weight_decay"])
    return made


def _prodigy(own: Optimizer) -> Optimizer:
    from prodigyopt import Prodigy

    (group,) = own.param_groups
    made: Optimizer = Prodigy(group["params"], weight_decay=group["weight_decay"])
    return made


METHODS = {
    "Schedule-Free": Method("schedulefree", _schedule_free, ScheduleFree),
    "Prodigy, linear decay": Method("prodigyopt", _prodigy, controller=Linear(), tuned=False),
    "DoG": Method("dog (dog-optimizer)", _dog, DogAverage, tuned=False),
    "GreedyLR": Method("transformers", extra=GreedyRate),
    "constant, averaged": Method(extra=TailAverage),
    "linear, averaged": Method(extra=TailAverage, controller=Linear()),
}
"""By name. Schedule-Free: Defazio et al. 2024, arXiv:2405.15682; Prodigy: Mishchenko and Defazio 2023,
arXiv:2306.06101; DoG: Ivgi et al. 2023, arXiv:2302.12022; GreedyLR: arXiv:2512.14527; averages of the last
weights: Polyak and Juditsky 1992."""


def library_methods() -> list[Comparator]:
    """All of them; ArgumentError if a package is missing."""
    missing = sorted(
        {each.package for each in METHODS.values() if importlib.util.find_spec(each.package.split()[0]) is None}
    )
    if missing:
        raise ArgumentError(
            f"libraries to compare with are missing: {', '.join(missing)}: pip install 'rlsched[evaluate]', or "
            "leave them out by --no-other-libraries."
        )
    return [Library(name) for name in METHODS]
