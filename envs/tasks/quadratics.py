"""Noisy quadratics, of which the effect of every learning rate is known in advance."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from rlsched import Buckets, _check
from rlsched.contract import Array
from rlsched.envs.tasks.data import DECISIONS, log_uniform
from rlsched.envs.tasks.optimizers import make_optimizer
from rlsched.envs.tasks.task import Task, TaskConfig, TaskFamily, expect


@dataclass(frozen=True, kw_only=True)
class QuadraticsConfig(TaskConfig):
    """One noisy quadratic.

    Attributes:
        dimensions: d, in [1, 1000].
        condition: largest curvature h_1 = 1 relative to the smallest, h_d, in [1, 1e6]; geometric in between.
        noise: standard deviation sigma of the examples in every dimension, in [0, 1e3].
        init: standard deviation of the initial parameters around the optimum, in [1e-3, 1e3].
    """

    dimensions: int = 8
    condition: float = 1.0
    noise: float = 1.0
    init: float = 1.0
    optimizer: str = "plain_sgd"
    base_lr: float = 1.0

    shared: ClassVar[tuple[str, ...]] = (*TaskConfig.shared, "dimensions", "condition")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("dimensions", self.dimensions, 1, 1000)
        _check.real("condition", self.condition, 1.0, 1e6)
        _check.real("noise", self.noise, 0.0, 1e3)
        _check.real("init", self.init, 1e-3, 1e3)

    @property
    def curvature(self) -> Array:
        """(d,) curvatures h, from 1 to 1 / condition."""
        return np.geomspace(1.0, 1.0 / self.condition, self.dimensions)


@dataclass(frozen=True)
class Quadratics(TaskFamily):
    """Noisy quadratics with a known optimal schedule, for tests and for figures of what is attainable.

    The loss of parameters w on an example e is 1/2 sum_i h_i (w_i - e_i)^2, the examples are normal with mean 0
    and variance sigma^2, w starts normal with variance init^2, and the optimizer is plain SGD. With batches of B
    and v_t = E[w_t^2], independent in each dimension,

        v_{t+1} = (1 - lr_t h)^2 v_t + (lr_t h)^2 sigma^2 / B,    excess risk at t: 1/2 sum_i h_i v_{t,i}

    (`excess_risks`; Zhang et al. 2019, arXiv:1907.04164). The learning rate that lowers the next excess risk
    most follows by its derivative (`greedy_lrs`; Schaul et al. 2013, arXiv:1206.1106):

        lr_t = sum_i h_i^2 v_{t,i} / sum_i h_i^3 (v_{t,i} + sigma^2 / B)

    Where all curvatures are equal (`condition` 1), that is the best of all schedules: the next risk grows with
    the present one, so nothing is gained by a worse one. Then 1 / v_t = 1 / init^2 + t B / sigma^2. Otherwise it
    is short-sighted, for it lowers the noise in steep directions before there was progress in flat ones (Wu et
    al. 2018, arXiv:1803.02021).

    The validation and test data are the mean of the distribution, and the loss on them is the excess risk
    itself. There are as many training examples as a run draws, each drawn once, so that batches are
    independent. Buckets are quantiles of the loss at the optimum; there is no curriculum, as the theory is of
    the natural mixture.

    Attributes:
        num_buckets: buckets of every task, in [1, 32].
        misjudged: largest factor between the base learning rate and 1 / h_1 = 1, at least 1.
        min_steps: fewest optimizer steps; their number is log-uniform.
        max_steps: most optimizer steps; with the largest batch of 32 they decide the size of the data.
    """

    num_buckets: int = 4
    misjudged: float = 100.0
    min_steps: int = 100
    max_steps: int = 500

    config_type: ClassVar = QuadraticsConfig

    def __post_init__(self) -> None:
        _check.integer("num_buckets", self.num_buckets, 1, 32)
        _check.real("misjudged", self.misjudged, 1.0, 1e4)
        _check.integer("min_steps", self.min_steps, 12)
        _check.integer("max_steps", self.max_steps, self.min_steps)

    def sample(self, rng: np.random.Generator) -> QuadraticsConfig:
        """Settings of one task."""
        num_steps = round(log_uniform(rng, self.min_steps, self.max_steps))
        return QuadraticsConfig(
            data_seed=int(rng.integers(2**31)),
            num_steps=num_steps,
            num_decisions=int(rng.choice([n for n in DECISIONS if n < num_steps])),
            batch_size=2 ** int(rng.integers(2, 6)),
            base_lr=log_uniform(rng, 1 / self.misjudged, self.misjudged),
            curriculum=False,
            feedback=bool(rng.random() < 0.5),
            batch_size_known=bool(rng.random() < 0.75),
            num_buckets=self.num_buckets,
            dimensions=round(log_uniform(rng, 2, 20)),
            condition=1.0 if rng.random() < 0.5 else log_uniform(rng, 1.0, 30.0),
            noise=log_uniform(rng, 0.1, 10.0),
        )

    def sensible_lr(self, config: TaskConfig) -> float:
        """See `TaskFamily`: 1 / h_1."""
        return 1.0

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `QuadraticsConfig`."""
        config = expect(config, QuadraticsConfig)
        rng = np.random.default_rng(config.data_seed)
        size = config.num_steps * config.batch_size
        # A multiple of the buckets, so that every bucket can give its share to each batch to the end.
        size += -size % config.num_buckets
        examples = config.noise * rng.standard_normal((size, config.dimensions), dtype=np.float32)
        mean = torch.zeros(1, config.dimensions)
        curvature = torch.tensor(config.curvature, dtype=torch.float32)
        return Task(
            config=config,
            make_model=functools.partial(_Quadratic, curvature, config.init),
            make_optimizer=functools.partial(make_optimizer, config),
            loss=_loss,
            train=TensorDataset(torch.from_numpy(examples)),
            validation=(mean,),
            test=(mean,),
            buckets=Buckets.from_scores(np.square(examples) @ config.curvature, config.num_buckets),
        )


def excess_risks(config: QuadraticsConfig, lrs: Sequence[float] | Array) -> Array:
    """Expected excess risk (T+1,) before and after each of T steps of plain SGD with learning rates `lrs` (T,)."""
    second_moments = np.full(config.dimensions, config.init**2)
    risks = [_risk(config, second_moments)]
    for lr in lrs:
        second_moments = _step(config, second_moments, float(lr))
        risks.append(_risk(config, second_moments))
    return np.array(risks)


def greedy_lrs(config: QuadraticsConfig) -> Array:
    """Learning rates (num_steps,), each the one that leads to the lowest expected excess risk after its step.

    They are 0 from where the risk is 0, which takes examples without noise.
    """
    h, second_moments, lrs = config.curvature, np.full(config.dimensions, config.init**2), []
    for _ in range(config.num_steps):
        scale = float((h**3 * (second_moments + config.noise**2 / config.batch_size)).sum())
        lrs.append(float((h**2 * second_moments).sum()) / scale if scale else 0.0)
        second_moments = _step(config, second_moments, lrs[-1])
    return np.array(lrs)


def _step(config: QuadraticsConfig, second_moments: Array, lr: float) -> Array:
    contraction = lr * config.curvature
    return (1 - contraction) ** 2 * second_moments + contraction**2 * config.noise**2 / config.batch_size


def _risk(config: QuadraticsConfig, second_moments: Array) -> float:
    return 0.5 * float((config.curvature * second_moments).sum())


class _Quadratic(nn.Module):
    """1/2 sum_i h_i (w_i - e_i)^2 (B,) on examples e (B, d)."""

    def __init__(self, curvature: Tensor, init: float, generator: torch.Generator) -> None:
        super().__init__()
        self.curvature: Tensor
        self.register_buffer("curvature", curvature)
        self.w = nn.Parameter(init * torch.randn(len(curvature), generator=generator))

    def forward(self, examples: Tensor) -> Tensor:
        return 0.5 * (self.curvature * (self.w - examples).square()).sum(dim=1)


def _loss(model: nn.Module, batch: Any) -> Tensor:
    losses: Tensor = model(batch[0])
    return losses
