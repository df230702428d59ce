"""What methods of other libraries do beside their optimizer's steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from rlsched.envs.tasks import TaskConfig

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


class ScheduleFree(Extra):
    """Judged at its average of iterates."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, config: TaskConfig) -> None:
        self._optimizer: Any = optimizer

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        self._optimizer.eval()
        yield
        self._optimizer.train()


class GreedyRate(Extra):
    """GreedyLR on the running mean of the loss, within a hundredth and ten times of the base learning rates."""

    sets_rate = True

    def __init__(self, model: nn.Module, optimizer: Optimizer, config: TaskConfig) -> None:
        from transformers.optimization import GreedyLR

        rates = [float(group["lr"]) for group in optimizer.param_groups]
        # Its own bounds, 0.001 to 1, are those of one optimizer.
        low, high = [rate / 100.0 for rate in rates], [rate * 10.0 for rate in rates]
        self._scheduler = GreedyLR(optimizer, min_lr=low, max_lr=high, smooth=True)

    def after_step(self, step: int, loss: float) -> None:
        self._scheduler.step(loss)


class Swapped(Extra):
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


class TailAverage(Swapped):
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


class DogAverage(Swapped):
    """With the average that DoG's authors judge it by."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, config: TaskConfig) -> None:
        from dog import PolynomialDecayAverager

        super().__init__(model)
        self._averager = PolynomialDecayAverager(model)

    def after_step(self, step: int, loss: float) -> None:
        self._averager.step()

    def judged(self) -> Sequence[Tensor] | None:
        return list(self._averager.averaged_model.parameters())


def _fill(model: nn.Module, values: Sequence[Tensor]) -> None:
    for parameter, value in zip(model.parameters(), values, strict=True):
        parameter.data.copy_(value)
