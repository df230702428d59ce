"""An ordinary PyTorch training loop as an inner run: any module, any optimizer, any map-style data set."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import Dataset

from rlsched.collate import collate
from rlsched.contract import RUN_TELEMETRY, Array, RunSpec, Window
from rlsched.envs.data_order import DataOrder
from rlsched.envs.tasks.task import Task
from rlsched.monitor import Monitor
from rlsched.randomness import Randomness
from rlsched.rates import is_adaptive, scaled

MEASURED_ELEMENTS = 2**18
"""Of larger models, a part is measured; engines that measure all of a model take none of these."""


class TorchRun:
    """One task trained by an eager loop. Slow and obvious: the reference for faster engines.

    Args:
        task: what to train.
        reads: telemetry to measure; by default all but that of single parameter groups, which takes more time.
        group_rates: whether the caller passes `Decision.group_scale` on to `advance`. Controllers that scale
            parameter groups one by one are refused otherwise.
    """

    spec: RunSpec

    def __init__(self, task: Task, reads: frozenset[str] = RUN_TELEMETRY, *, group_rates: bool = False) -> None:
        self.task = task
        self._reads, self._group_rates = reads, group_rates

    def reset(self, seed: int) -> None:
        """Start afresh: model, optimizer and data order follow from `seed` alone."""
        model_seed, draw_seed, torch_seed = run_seeds(seed)
        self.model = self.task.make_model(torch.Generator().manual_seed(model_seed))
        self.optimizer = self.task.make_optimizer(self.model)
        self._order = DataOrder(self.task, draw_seed)
        self._randomness = Randomness(torch_seed)
        # The same at every evaluation: a loss that draws random numbers is then comparable over time.
        self._evaluation = Randomness(torch_seed)
        self._base_lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._monitor = Monitor(self.optimizer, self._reads, MEASURED_ELEMENTS)
        self._step, self._decision = 0, 0
        self.spec = dataclasses.replace(
            run_spec(self.task, self.optimizer), group_rates=np.array([self._group_rates])
        )

    def advance(
        self, n_steps: int, lr_scale: Array, bucket_weights: Array, group_scale: Array | None = None
    ) -> Window:
        """Train for `n_steps` steps; see `InnerRun.advance`.

        Here each parameter group may have a scale of its own: `group_scale` (G,), None for 1 everywhere.
        """
        self._monitor.begin(self._step, n_steps, self.spec.num_buckets)
        self._seen: list[tuple[Array, Array]] = []
        self._group_scale = group_scale
        self.model.train()
        with self._randomness():
            for offset in range(n_steps):
                if not self._train_step(float(lr_scale[offset]), bucket_weights):
                    break
        self._decision += 1
        if self.task.probe is not None:
            self._monitor.report_buckets(self._order.bucket_means(self._probe_losses(), self._step))
        window = self._monitor.close(self.spec, self._decision)
        indices, losses = (
            (np.array(values) for values in zip(*self._seen, strict=True)) if self._seen else _NOTHING
        )
        self._order.close_window(indices, losses)
        return window

    def _train_step(self, lr_scale: float, bucket_weights: Array) -> bool:
        """One optimizer step; whether its loss was finite."""
        rates = scaled(self._base_lrs, lr_scale, self._group_scale)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        indices, ids = self._order.draw(bucket_weights, self._step)
        losses = self.task.loss(self.model, collate(self._data(), indices))
        self.optimizer.zero_grad()
        losses.mean().backward()
        self.optimizer.step()
        values = losses.detach().to("cpu", torch.float64).numpy()
        mean = float(values.mean())
        self._monitor.record(mean, values, ids)
        self._step += 1
        finite = math.isfinite(mean)
        if finite:
            self._seen.append((indices, values))
        return finite

    def _data(self) -> Dataset[Any]:
        """The training data of the coming step."""
        drifted = self.task.drifted
        return drifted if drifted is not None and self._step < self.task.drift_until else self.task.train

    def counters(self) -> tuple[int, int]:
        """Steps and decisions done so far."""
        return self._step, self._decision

    def validation_loss(self) -> float:
        """Mean loss on the validation data; not finite if the run has diverged."""
        return self._loss_on(self.task.validation)

    def test_loss(self) -> float:
        """Mean loss on the test data; for the evaluation alone."""
        return self._loss_on(self.task.test)

    def _loss_on(self, batch: Any) -> float:
        return float(self._losses_on(batch).mean())

    def _probe_losses(self) -> Array:
        assert self.task.probe is not None
        return np.asarray(self._losses_on(collate(self.task.train, self.task.probe)).double().cpu().numpy())

    def _losses_on(self, batch: Any) -> Tensor:
        self.model.eval()
        with torch.no_grad(), self._evaluation(keep=False):
            return self.task.loss(self.model, batch)

    def state_dict(self) -> dict[str, Any]:
        """Everything the rest of the run depends on."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self._order.state_dict(),
            "randomness": self._randomness.states,
            "monitor": self._monitor.state_dict(),
            "step": self._step,
            "decision": self._decision,
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, bit for bit. Call `reset` first."""
        state = copy.deepcopy(state)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._order.load_state_dict(state["order"])
        self._randomness.states = state["randomness"]
        self._monitor.load_state_dict(state["monitor"])
        self._step, self._decision = state["step"], state["decision"]


_NOTHING = (np.zeros(0, dtype=np.int64), np.zeros(0))


def run_seeds(seed: int) -> tuple[int, int, int]:
    """Seeds of a run's model, of its draws from the data, and of modules that draw random numbers."""
    model, draws, modules = np.random.SeedSequence(seed).generate_state(3)
    return int(model), int(draws), int(modules)


def run_spec(task: Task, optimizer: Optimizer) -> RunSpec:
    """The `RunSpec` of a run of `task` that begins with `optimizer`."""
    config = task.config
    curriculum = config.curriculum and task.buckets.count > 1
    return RunSpec.single(
        config.num_steps,
        config.num_decisions,
        [float(group["lr"]) for group in optimizer.param_groups],
        adaptive=is_adaptive(optimizer),
        batch_size=config.batch_size if config.batch_size_known else None,
        # A sampler tells them.
        epochs=task.epochs if config.epochs_known or curriculum else None,
        bucket_shares=task.buckets.shares,
        bucket_difficulty=task.buckets.difficulty,
        curriculum=curriculum,
    )
