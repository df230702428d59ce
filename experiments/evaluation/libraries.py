"""Methods of other libraries: optimizers and schedulers that find a learning rate by themselves, and averaging."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from rlsched._check import ArgumentError
from rlsched.agents.rollouts import Setting, Weights
from rlsched.contract import Array, Controller
from rlsched.controllers import Constant, Linear
from rlsched.envs.population.eager_block import EagerBlock
from rlsched.envs.tasks import Task, TaskConfig
from rlsched.envs.torch_run import TorchRun
from rlsched.experiments.evaluation.comparators import FACTORS, Comparator, Ran, record
from rlsched.rates import is_adaptive

CONSTANT = Constant()
TAIL = 0.2
"""Share of a run, at its end, over which weights are averaged."""


class Extra:
    """What a method does beside its optimizer's steps; this one does nothing."""

    sets_rate = False
    """Whether it sets the optimizer's learning rate itself."""

    def after_step(self, step: int, loss: float) -> None:
        """After optimizer step number `step`, from 1, at this mean loss."""

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Meanwhile the model has the weights that are to be judged."""
        yield


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


class _ScheduleFree(Extra):
    """Judged at its average of iterates."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, config: TaskConfig) -> None:
        self._optimizer: Any = optimizer

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        self._optimizer.eval()
        yield
        self._optimizer.train()


class _GreedyLR(Extra):
    """Steps the scheduler at every optimizer step, within a hundredth and ten times of the base learning rate."""

    sets_rate = True

    def __init__(self, model: nn.Module, optimizer: Optimizer, config: TaskConfig) -> None:
        from transformers.optimization import GreedyLR

        # Its own bounds, 0.001 to 1, are those of one optimizer.
        self._scheduler = GreedyLR(optimizer, min_lr=config.base_lr / 100.0, max_lr=config.base_lr * 10.0)

    def after_step(self, step: int, loss: float) -> None:
        self._scheduler.step(loss)


class _Swapped(Extra):
    """Judged at other weights than those that are trained."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def judged(self) -> Sequence[Tensor] | None:
        """The parameters to judge, or None for those that are trained."""
        raise NotImplementedError

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        other = self.judged()
        if other is None:
            yield
            return
        own = [parameter.detach().clone() for parameter in self._model.parameters()]
        _fill(self._model, other)
        yield
        _fill(self._model, own)


class _TailAverage(_Swapped):
    """The mean of the weights after each step in the last `TAIL` of the run."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, config: TaskConfig) -> None:
        super().__init__(model)
        self._average = AveragedModel(model)
        self._begin = (1.0 - TAIL) * config.num_steps

    def after_step(self, step: int, loss: float) -> None:
        if step > self._begin:
            self._average.update_parameters(self._model)

    def judged(self) -> Sequence[Tensor] | None:
        return list(self._average.module.parameters()) if int(self._average.n_averaged) else None


def _dog(own: Optimizer) -> Optimizer:
    from dog import DoG

    (group,) = own.param_groups
    made: Optimizer = DoG(group["params"], weight_decay=group["weight_decay"])
    return made


class _DogAverage(_Swapped):
    """With the average that DoG's authors judge it by."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, config: TaskConfig) -> None:
        from dog import PolynomialDecayAverager

        super().__init__(model)
        self._averager = PolynomialDecayAverager(model)

    def after_step(self, step: int, loss: float) -> None:
        self._averager.step()

    def judged(self) -> Sequence[Tensor] | None:
        return list(self._averager.averaged_model.parameters())


def _prodigy(own: Optimizer) -> Optimizer:
    from prodigyopt import Prodigy

    (group,) = own.param_groups
    made: Optimizer = Prodigy(group["params"], weight_decay=group["weight_decay"])
    return made


def _fill(model: nn.Module, values: Sequence[Tensor]) -> None:
    for parameter, value in zip(model.parameters(), values, strict=True):
        parameter.data.copy_(value)


METHODS = {
    "Schedule-Free": Method("schedulefree", _schedule_free, _ScheduleFree),
    "Prodigy, linear decay": Method("prodigyopt", _prodigy, controller=Linear(), tuned=False),
    "DoG": Method("dog (dog-optimizer)", _dog, _DogAverage, tuned=False),
    "GreedyLR": Method("transformers", extra=_GreedyLR),
    "constant, averaged": Method(extra=_TailAverage),
    "linear, averaged": Method(extra=_TailAverage, controller=Linear()),
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
