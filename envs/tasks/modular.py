"""Addition modulo a number, by a network that can learn it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlsched import _check
from rlsched.contract import Array
from rlsched.envs.tasks.assemble import Pool, assemble, mislabel
from rlsched.envs.tasks.data import DataConfig, DataFamily, log_uniform
from rlsched.envs.tasks.losses import squared_error
from rlsched.envs.tasks.models import square_network
from rlsched.envs.tasks.task import Task, TaskConfig, expect


@dataclass(frozen=True, kw_only=True)
class ModularConfig(DataConfig):
    """One task of modular addition: from one-hot a and b, one-hot (a + b) mod p.

    Attributes:
        modulus: p, in [5, 97]; there are p^2 pairs, and three fifths of them are trained on.
        width: hidden units of the network, in [1, 4096].
    """

    modulus: int = 23
    width: int = 128

    # The modulus decides which batches there are enough pairs for.
    shared: ClassVar[tuple[str, ...]] = (*DataConfig.shared, "modulus", "width")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("modulus", self.modulus, 5, 97)
        _check.integer("width", self.width, 1, 4096)


@dataclass(frozen=True)
class Modular(DataFamily):
    """Modular addition (Power et al. 2022, arXiv:2201.02177), p from 19 to 31, by a network with squares and the
    squared error (Gromov 2023, arXiv:2301.02679).

    With ReLU and cross-entropy, runs of this length learn the training pairs by heart and nothing else: on p = 11,
    23 and 31 the validation loss rose from ln p to between 10 and 22. With squares, and above p = 17, they
    generalise within some hundred steps; below there are too few pairs.

    All training pairs are used, unless there is little to learn from, and batches are half of them at most.
    """

    reference_lr: ClassVar[dict[str, float]] = {"sgd": 1.0, "adam": 0.05, "adamw": 0.05}
    config_type: ClassVar = ModularConfig

    def sample(self, rng: np.random.Generator) -> ModularConfig:
        """Settings of one task."""
        common, modulus = self.common(rng), int(rng.integers(19, 32))
        # What `assemble` leaves of the pairs after validation and test.
        num_train = modulus**2 - 2 * (modulus**2 // 5)
        common |= {
            "num_examples": num_train,
            "batch_size": min(common["batch_size"], 2 ** int(np.log2(num_train / 2))),
            "imbalance": 1.0,
        }
        return ModularConfig(**common, modulus=modulus, width=round(log_uniform(rng, 64, 256)))

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `ModularConfig`."""
        config = expect(config, ModularConfig)
        one_hot = np.eye(config.modulus)
        pairs = np.indices((config.modulus, config.modulus)).reshape(2, -1)
        return assemble(
            config,
            Pool(
                np.concatenate(list(one_hot[pairs]), axis=1),
                _one_hot_targets(one_hot, pairs.sum(axis=0)),
                standardise=False,
            ),
            np.random.default_rng(config.data_seed),
            make_model=functools.partial(square_network, 2 * config.modulus, config.width, config.modulus),
            loss=squared_error,
            drift=functools.partial(_subtract, config),
        )


def _one_hot_targets(one_hot: Array, numbers: Array) -> Array:
    """(n, p) one-hot classes, standardised: a constant guess has a loss of 1."""
    modulus = len(one_hot)
    return (one_hot[numbers % modulus] - 1 / modulus) * modulus / np.sqrt(modulus - 1)


def _subtract(
    config: ModularConfig, inputs: Array, targets: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Differences come before sums."""
    first, second = inputs.reshape(len(inputs), 2, -1).argmax(axis=2).T
    differences = _one_hot_targets(np.eye(config.modulus), first - second)
    return inputs, mislabel(differences, 0, config.label_noise, rng)
