"""Methods of other libraries: optimizers and schedulers that find a learning rate by themselves, and averaging."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from rlsched._check import ArgumentError
from rlsched.agents.rollouts import Setting, Weights
from rlsched.contract import Array, Controller
from rlsched.controllers import Constant, Cosine, Linear
from rlsched.envs.population.eager_block import EagerBlock
from rlsched.envs.tasks import Task, TaskConfig
from rlsched.envs.torch_run import TorchRun
from rlsched.experiments.evaluation.comparators import FACTORS, Comparator, Ran, record
from rlsched.experiments.evaluation.extras import DogAverage, Extra, GreedyRate, ScheduleFree, TailAverage
from rlsched.rates import is_adaptive

CONSTANT = Constant()
WARMUP = 10
"""Steps of Schedule-Free's own warm-up, which its authors recommend."""


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
    def content(self) -> str:
        """Its name, and the version of the package."""
        package = METHODS[self.name].package.replace("(", "").replace(")", "").split()[-1]
        return f"{self!r} {importlib.metadata.version(package)}"

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

    first = own.param_groups[0]
    made: Any
    if is_adaptive(own):
        betas = first.get("betas", (0.9, 0.999))
        made = schedulefree.AdamWScheduleFree(_groups(own), betas=betas, warmup_steps=WARMUP)
    else:
        # Its averaging stands for momentum, which multiplies the length of SGD's steps by 1 / (1 - momentum).
        longer = 1.0 / (1.0 - first.get("momentum", 0.0))
        made = schedulefree.SGDScheduleFree(_groups(own, longer), warmup_steps=WARMUP)
    made.train()
    optimizer: Optimizer = made
    return optimizer


def _dog(own: Optimizer) -> Optimizer:
    from dog import DoG

    # It would add a decoupled decay, which is meant to be times a small learning rate, to gradients.
    coupled = [group | {"weight_decay": 0.0} for group in _groups(own)] if _decouples(own) else _groups(own)
    made: Optimizer = DoG([group | {"lr": 1.0} for group in coupled])
    return made


def _prodigy(own: Optimizer) -> Optimizer:
    from prodigyopt import Prodigy

    groups = [group | {"lr": 1.0} for group in _groups(own)]
    with contextlib.redirect_stdout(None):  # it prints how it decays weights
        made: Optimizer = Prodigy(groups, decouple=_decouples(own))
    return made


def _groups(own: Optimizer, factor: float = 1.0) -> list[dict[str, Any]]:
    """The parameter groups, with learning rates times `factor` and their weight decay."""
    return [
        {"params": g["params"], "lr": float(g["lr"]) * factor, "weight_decay": float(g.get("weight_decay", 0.0))}
        for g in own.param_groups
    ]


def _decouples(own: Optimizer) -> bool:
    return isinstance(own, AdamW) or bool(own.param_groups[0].get("decoupled_weight_decay", False))


METHODS = {
    "Schedule-Free": Method("schedulefree", _schedule_free, ScheduleFree),
    "Prodigy, cosine": Method("prodigyopt", _prodigy, controller=Cosine(), tuned=False),
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
