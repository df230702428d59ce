"""What can be the matter with training data: noise, imbalance, copies, foreign domains, drift."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from rlsched import Buckets, OnlineBuckets, _check, linear_probe_scores
from rlsched.contract import Array
from rlsched.envs.tasks.optimizers import make_optimizer
from rlsched.envs.tasks.task import Task, TaskConfig, TaskFamily

DECISIONS = (10, 20, 25, 50, 100)
"""Divisors of 100, so that whole episodes fill a rollout of 100 decisions."""

Drift = Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]


@dataclass(frozen=True, kw_only=True)
class DataConfig(TaskConfig):
    """Settings of tasks on a pool of examples.

    Attributes:
        num_examples: training examples at most, before imbalance; at least two batches are used.
        num_validation: validation examples at most. They are read at every decision, where a full pass would
            cost more than the training between two of them.
        label_noise: share of training examples with a wrong target, in [0, 0.9].
        noisy_validation: whether validation targets are as noisy as the training targets.
        imbalance: examples of the rarest class relative to the commonest, in (0, 1]; classification alone.
        duplicates: share of training examples that are copies of a few easy ones, in [0, 0.9].
        domain_skew: 0 where all examples are alike; otherwise examples come from `num_buckets` domains, each
            harder to read than the last, and validation and test weigh them by shares that are exp(skew) apart.
        drift: share of the run during which the training data are others than those it is judged by, in [0, 1).
    """

    num_examples: int = 800
    num_validation: int = 128
    label_noise: float = 0.0
    noisy_validation: bool = False
    imbalance: float = 1.0
    duplicates: float = 0.0
    domain_skew: float = 0.0
    drift: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("num_examples", self.num_examples, 10)
        _check.integer("num_validation", self.num_validation, 1)
        _check.real("label_noise", self.label_noise, 0.0, 0.9)
        _check.real("imbalance", self.imbalance, 0.01, 1.0)
        _check.real("duplicates", self.duplicates, 0.0, 0.9)
        _check.real("domain_skew", self.domain_skew, 0.0, 10.0)
        _check.real("drift", self.drift, 0.0, 0.99)
        if self.bucket_by == "domain" and not self.domain_skew:
            raise ValueError('domain_skew must be > 0 where bucket_by is "domain", got 0.')


@dataclass(frozen=True)
class DataFamily(TaskFamily):
    """Common ground of families on a pool of examples: what is drawn for each of their tasks.

    Half of the tasks have noisy labels (10 to 40 %), and in a quarter of all the validation labels are as noisy;
    classes are imbalanced in a third; a quarter each have duplicates, domains and drift. Three quarters have a
    curriculum. The base learning rate is misjudged log-uniformly.

    Attributes:
        num_buckets: buckets of every task.
        misjudged: largest factor between the base learning rate and a sensible one, at least 1.
        min_steps: fewest optimizer steps; their number is log-uniform.
        max_steps: most optimizer steps.
        min_batch: smallest batch; batch sizes are powers of two.
        max_batch: largest batch.
    """

    num_buckets: int = 4
    misjudged: float = 100.0
    min_steps: int = 120
    max_steps: int = 2000
    min_batch: int = 8
    max_batch: int = 256

    reference_lr: ClassVar[dict[str, float]] = {"sgd": 0.1, "adam": 0.01, "adamw": 0.01}
    """Learning rates about right for the family; base learning rates are misjudged around them."""

    def __post_init__(self) -> None:
        _check.integer("num_buckets", self.num_buckets, 1, 32)
        _check.real("misjudged", self.misjudged, 1.0, 1e4)
        _check.integer("min_steps", self.min_steps, 12)
        _check.integer("max_steps", self.max_steps, self.min_steps)
        _check.integer("min_batch", self.min_batch, 1)
        _check.integer("max_batch", self.max_batch, self.min_batch)

    def sample_like(self, rng: np.random.Generator, first: TaskConfig) -> TaskConfig:
        """See `TaskFamily`; the base learning rate stays as misjudged as it was drawn."""
        config = self.sample(rng)
        scale = self.reference_lr[first.optimizer] / self.reference_lr[config.optimizer]
        shared = {name: getattr(first, name) for name in first.shared}
        return dataclasses.replace(config, base_lr=config.base_lr * scale, **shared)

    def common(self, rng: np.random.Generator) -> dict[str, Any]:
        """The settings of `DataConfig`, drawn from `rng`."""
        optimizer = str(rng.choice(sorted(self.reference_lr)))
        decades = math.log10(self.misjudged)
        num_steps = round(log_uniform(rng, self.min_steps, self.max_steps))
        low, high = math.log2(self.min_batch), math.log2(self.max_batch)
        domains, bucket_by = rng.random() < 0.25, "difficulty"
        if rng.random() < 1 / 3:
            bucket_by = "online"
        elif domains and rng.random() < 0.5:
            bucket_by = "domain"
        return {
            "data_seed": int(rng.integers(2**31)),
            "num_steps": num_steps,
            "num_decisions": int(rng.choice([n for n in DECISIONS if n < num_steps])),
            "batch_size": 2 ** int(rng.integers(math.ceil(low), math.floor(high) + 1)),
            "optimizer": optimizer,
            "base_lr": self.reference_lr[optimizer] * 10 ** rng.uniform(-decades, decades),
            "curriculum": bool(rng.random() < 0.75),
            "feedback": bool(rng.random() < 0.5),
            "batch_size_known": bool(rng.random() < 0.75),
            "num_buckets": self.num_buckets,
            "bucket_by": bucket_by,
            "probed": bool(rng.random() < 0.25),
            "num_examples": round(log_uniform(rng, 80, 1000)),
            "label_noise": float(rng.uniform(0.1, 0.4)) if rng.random() < 0.5 else 0.0,
            "noisy_validation": bool(rng.random() < 0.25),
            "imbalance": log_uniform(rng, 0.1, 1.0) if rng.random() < 1 / 3 else 1.0,
            "duplicates": float(rng.uniform(0.1, 0.6)) if rng.random() < 0.25 else 0.0,
            "domain_skew": float(rng.uniform(0.5, 3.0)) if domains else 0.0,
            "drift": float(rng.uniform(0.1, 0.6)) if rng.random() < 0.25 else 0.0,
        }


@dataclass(frozen=True, eq=False)
class Pool:
    """Clean examples that a task draws on.

    Attributes:
        inputs: (n, ...) floats or token ids.
        targets: (n,) classes, (n, T) real targets, or (n, L) tokens.
        num_classes: of (n,) classes, else 0.
        domains: (n,) domain of each example where there are given ones; otherwise those asked for are made.
        standardise: whether (n, d) inputs are standardised by the training examples.
    """

    inputs: Array
    targets: Array
    num_classes: int = 0
    domains: Array | None = None
    standardise: bool = True


def linear_probe(inputs: Array, targets: Array) -> Array:
    """`rlsched.linear_probe_scores` on flattened inputs."""
    return linear_probe_scores(inputs.reshape(len(inputs), -1), targets)


def assemble(
    config: DataConfig,
    pool: Pool,
    rng: np.random.Generator,
    *,
    make_model: Callable[[torch.Generator], nn.Module],
    loss: Callable[[nn.Module, Any], Tensor],
    score: Callable[[Array, Array], Array] = linear_probe,
    drift: Drift | None = None,
) -> Task:
    """The task of `config` on `pool`: disjoint parts, with everything the matter that `config` asks for.

    Args:
        config: settings.
        pool: clean examples; a fifth each is kept for validation and test.
        rng: of every choice about the data.
        make_model: see `Task`.
        loss: see `Task`.
        score: difficulty (n,) of training inputs and (noisy) targets, higher is harder.
        drift: inputs and targets before the shift, from those after it. By default the signs of half of the
            features are flipped, or, where inputs are tokens, targets are exchanged.
    """
    inputs, targets = pool.inputs, pool.targets
    order = rng.permutation(len(inputs))
    held_out = len(order) // 5
    validation, test, train = np.split(order, [held_out, 2 * held_out])
    train = train[: max(config.num_examples, 2 * config.batch_size)]
    if config.imbalance < 1.0 and pool.num_classes:
        train = _thin_classes(train, targets, pool.num_classes, config, rng)
    if pool.standardise:
        seen = inputs[train]
        inputs = np.clip((inputs - seen.mean(axis=0)) / (seen.std(axis=0) + 1e-6), -6.0, 6.0)
    domains = pool.domains
    if config.domain_skew:
        if domains is None:
            domains = rng.integers(config.num_buckets, size=len(inputs))
            inputs = _blur(inputs, domains, config.num_buckets, rng)
        shares = np.exp(config.domain_skew * rng.permutation(np.linspace(0.0, 1.0, config.num_buckets)))
        validation, test = (_weigh(part, domains, shares / shares.max(), rng) for part in (validation, test))

    noisy = mislabel(targets, pool.num_classes, config.label_noise, rng)
    scores = None
    if config.duplicates or config.bucket_by == "difficulty":
        scores = score(inputs[train], noisy[train])
    if config.duplicates and scores is not None:
        easiest = np.argsort(scores, kind="stable")[: max(1, len(train) // 20)]
        source = np.arange(len(train))
        copies = rng.random(len(train)) < config.duplicates
        source[copies] = rng.choice(easiest, int(copies.sum()))
        train, scores = train[source], scores[source]

    buckets = _buckets(config, len(train), scores, None if domains is None else domains[train])
    drifted = None
    if config.drift:
        before = (drift or _default_drift)(inputs[train], noisy[train], rng)
        drifted = TensorDataset(*tensors(*before))
    validation = validation[: config.num_validation]
    held_targets = noisy if config.noisy_validation else targets
    return Task(
        config=config,
        make_model=make_model,
        make_optimizer=functools.partial(make_optimizer, config),
        loss=loss,
        train=TensorDataset(*tensors(inputs[train], noisy[train])),
        validation=tensors(inputs[validation], held_targets[validation]),
        test=tensors(inputs[test], targets[test]),
        buckets=buckets,
        online=config.bucket_by == "online",
        probe=buckets.probe(seed=config.data_seed) if config.probed else None,
        drifted=drifted,
        drift_until=round(config.drift * config.num_steps),
    )


def tensors(inputs: Array, targets: Array) -> tuple[Tensor, Tensor]:
    """Arrays as tensors: floats in single precision, integers in 64 bits."""
    first, second = (
        torch.tensor(values, dtype=torch.float32 if values.dtype.kind == "f" else torch.int64)
        for values in (inputs, targets)
    )
    return first, second


def mislabel(targets: Array, num_classes: int, share: float, rng: np.random.Generator) -> Array:
    """Targets of which a share is wrong: one of the other classes, or the target of another example."""
    if share == 0.0:
        return targets
    wrong = rng.random(len(targets)) < share
    noisy = targets.copy()
    if num_classes:
        noisy[wrong] = (targets[wrong] + rng.integers(1, num_classes, size=int(wrong.sum()))) % num_classes
    else:
        noisy[wrong] = targets[rng.permutation(len(targets))[wrong]]
    return noisy


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number in [low, high], uniform on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _thin_classes(
    train: Array, labels: Array, num_classes: int, config: DataConfig, rng: np.random.Generator
) -> Array:
    """Thin the classes geometrically, from all of the first to a share `imbalance` of the last."""
    rank = rng.permutation(num_classes)[labels[train]] / max(num_classes - 1, 1)
    kept = train[rng.random(len(train)) < config.imbalance**rank]
    # A batch and every bucket must fit in what is left.
    return kept if len(kept) >= max(config.batch_size, config.num_buckets) else train


def _blur(inputs: Array, domains: Array, count: int, rng: np.random.Generator) -> Array:
    """Float inputs with noise that grows from domain to domain, up to their own scale; others as they are."""
    if inputs.dtype.kind != "f":
        return inputs
    scale = domains.reshape(-1, *[1] * (inputs.ndim - 1)) / max(count - 1, 1)
    return inputs + scale * inputs.std() * rng.standard_normal(inputs.shape)


def _weigh(part: Array, domains: Array, kept: Array, rng: np.random.Generator) -> Array:
    """The examples of `part` kept with the probability of their domain; at least one."""
    chosen = part[rng.random(len(part)) < kept[domains[part]]]
    return chosen if len(chosen) else part


def _buckets(config: DataConfig, size: int, scores: Array | None, domains: Array | None) -> Buckets:
    if config.bucket_by == "domain" and domains is not None:
        groups = Buckets.from_groups(domains)
        if groups.count == config.num_buckets:
            return groups
    if scores is None:
        # Also where a domain has no training example left.
        return OnlineBuckets(size, config.num_buckets, seed=config.data_seed).buckets
    return Buckets.from_scores(scores, config.num_buckets)


def _default_drift(inputs: Array, targets: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    if inputs.dtype.kind == "f":
        return inputs * rng.choice([-1.0, 1.0], inputs.shape[1:]), targets
    return inputs, targets[rng.permutation(len(targets))]
