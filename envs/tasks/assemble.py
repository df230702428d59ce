"""From clean examples to a task: parts, and all that can be the matter with training data."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from rlsched import (
    Buckets,
    OnlineBuckets,
    forgetting_scores,
    linear_probe_scores,
    loss_history,
    loss_variance_scores,
    reference_loss_scores,
)
from rlsched.contract import Array
from rlsched.envs.tasks.data import DataConfig
from rlsched.envs.tasks.optimizers import make_optimizer
from rlsched.envs.tasks.task import Task

REFERENCE_LR = 3e-3
"""Of Adam in the reference training of a scorer."""
SCORERS = {
    "reference_loss": reference_loss_scores,
    "forgetting": forgetting_scores,
    "loss_variance": loss_variance_scores,
}

Drift = Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]


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
            used = np.concatenate([train, validation, test])
            blurred = inputs.copy()
            blurred[used] = _blur(inputs[used], domains[used], config.num_buckets, rng)
            inputs = blurred
        shares = np.exp(config.domain_skew * rng.permutation(np.linspace(0.0, 1.0, config.num_buckets)))
        validation, test = (_weigh(part, domains, shares / shares.max(), rng) for part in (validation, test))

    noisy = targets.copy()
    for part in (train, validation):
        # Within each part: a wrong target must not be one of another part's.
        noisy[part] = mislabel(targets[part], pool.num_classes, config.label_noise, rng)
    scores = None
    if config.duplicates or config.bucket_by == "difficulty":
        scores = _scores(config, inputs[train], noisy[train], score, make_model, loss)
    if config.duplicates and scores is not None:
        easiest = np.argsort(scores, kind="stable")[: max(1, len(train) // 20)]
        source = np.arange(len(train))
        copies = rng.random(len(train)) < config.duplicates
        source[copies] = rng.choice(easiest, int(copies.sum()))
        train, scores = train[source], scores[source]

    # Difficulty, and what a shift changes, are those of standardised inputs: units make nothing harder.
    shown = _units(config, inputs[train])
    buckets = _buckets(config, len(train), scores, None if domains is None else domains[train])
    drifted = None
    if config.drift:
        before = (drift or _default_drift)(inputs[train], noisy[train], rng)
        drifted = TensorDataset(*tensors(shown(before[0]), before[1]))
    validation = validation[: config.num_validation]
    held_targets = noisy if config.noisy_validation else targets
    return Task(
        config=config,
        make_model=make_model,
        make_optimizer=functools.partial(make_optimizer, config),
        loss=loss,
        train=TensorDataset(*tensors(shown(inputs[train]), noisy[train])),
        validation=tensors(shown(inputs[validation]), held_targets[validation]),
        test=tensors(shown(inputs[test]), targets[test]),
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


def _scores(
    config: DataConfig,
    inputs: Array,
    targets: Array,
    probe: Callable[[Array, Array], Array],
    make_model: Callable[[torch.Generator], nn.Module],
    loss: Callable[[nn.Module, Any], Tensor],
) -> Array:
    """(n,) difficulty by the scorer that `config` names; a reference training is of the task's own model."""
    if config.scorer == "probe":
        return probe(inputs, targets)
    model = make_model(torch.Generator().manual_seed(config.data_seed))
    optimizer = torch.optim.Adam(model.parameters(), lr=REFERENCE_LR)
    dataset = TensorDataset(*tensors(inputs, targets))
    batch_size = min(32, len(dataset))
    history = loss_history(model, dataset, loss, optimizer, batch_size=batch_size, seed=config.data_seed)
    return SCORERS[config.scorer](history)


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
        # Also where a domain has no training example left: buckets at random, without an order then.
        spread = OnlineBuckets(size, config.num_buckets, seed=config.data_seed).buckets
        online = config.bucket_by == "online"
        return spread if online else Buckets.from_groups(spread.ids)
    return Buckets.from_scores(scores, config.num_buckets)


def _units(config: DataConfig, inputs: Array) -> Callable[[Array], Array]:
    """Shows inputs in the units that `config` asks for, which are relative to those of the training `inputs`."""
    if config.input_scale == 1.0 and config.input_offset == 0.0:
        return lambda values: values
    offset = config.input_offset * inputs.std()
    return lambda values: config.input_scale * (values + offset)


def _default_drift(inputs: Array, targets: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    if inputs.dtype.kind == "f":
        return inputs * rng.choice([-1.0, 1.0], inputs.shape[1:]), targets
    return inputs, targets[rng.permutation(len(targets))]
