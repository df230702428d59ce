"""Classification or regression of somebody's own arrays."""

from __future__ import annotations

import functools
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from rlsched._check import ArgumentError
from rlsched.contract import Array
from rlsched.envs.tasks.assemble import Pool, assemble
from rlsched.envs.tasks.data import DataFamily
from rlsched.envs.tasks.losses import cross_entropy, squared_error
from rlsched.envs.tasks.perceptron import PerceptronConfig, sample_perceptron
from rlsched.envs.tasks.task import Task, TaskConfig, expect

LEAST = 100
"""Examples that a file must hold: a fifth each is kept for validation and test."""


@dataclass(frozen=True, kw_only=True)
class ArraysConfig(PerceptronConfig):
    """One task on the arrays of a file.

    Attributes:
        path: of the file.
    """

    path: str


@dataclass(frozen=True)
class Arrays(DataFamily):
    """MLPs on the arrays `x` and `y` of an `.npz` file, as they are: nothing is made the matter with them.

    `x` is (n, ...) of numbers, flattened and standardised; `y` is (n,) of integers, which are classes, or (n,) or
    (n, T) of floats, which are standardised targets of a regression. Splits, networks, optimizers and curricula
    differ from task to task.

    Attributes:
        path: of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ArgumentError: it does not hold such arrays; the message says what is wrong.
    """

    min_steps: int = 200
    max_steps: int = 1000
    min_batch: int = 16
    max_batch: int = 32
    path: str = ""

    config_type: ClassVar = ArraysConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        load_arrays(self.path)

    def sample(self, rng: np.random.Generator) -> ArraysConfig:
        """Settings of one task."""
        as_it_is = {
            "label_noise": 0.0, "imbalance": 1.0, "duplicates": 0.0, "domain_skew": 0.0, "drift": 0.0,
            "bucket_by": "difficulty", "num_examples": len(load_arrays(self.path)[0]), "num_validation": 1000,
        }  # fmt: skip
        return ArraysConfig(**(self.common(rng) | as_it_is), **sample_perceptron(rng, min_depth=1), path=self.path)

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, an `ArraysConfig`."""
        config = expect(config, ArraysConfig)
        inputs, targets = load_arrays(config.path)
        num_classes = int(targets.max()) + 1 if targets.dtype.kind == "i" else 0
        return assemble(
            config,
            Pool(inputs, targets, num_classes=num_classes),
            np.random.default_rng(config.data_seed),
            make_model=config.network(inputs.shape[1], num_classes or targets.shape[1]),
            loss=cross_entropy if num_classes else squared_error,
        )


@functools.lru_cache(maxsize=4)
def load_arrays(path: str) -> tuple[Array, Array]:
    """Inputs (n, d), and classes (n,) from 0 or standardised targets (n, T), of the file at `path`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        with open(path, "rb") as file:
            stored = np.load(file, allow_pickle=False)
            arrays = (
                {name: stored[name] for name in ("x", "y") if name in stored} if hasattr(stored, "files") else {}
            )
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ArgumentError(
            f"{path} is no .npz file of plain arrays ({error}): write it by numpy.savez(path, x=x, y=y)."
        ) from error
    if len(arrays) < 2:
        raise ArgumentError(f"{path} must hold arrays x and y: write it by numpy.savez(path, x=x, y=y).")
    x, y = arrays["x"], arrays["y"]
    if not x.ndim or not y.ndim or len(x) != len(y) or len(x) < LEAST or not x.size:
        raise ArgumentError(
            f"{path}: x and y must have the same length, at least {LEAST}, have shapes {x.shape} and {y.shape}."
        )
    for name, values, kinds in (("x", x, "fiub"), ("y", y, "fiu")):
        if values.dtype.kind not in kinds or not np.isfinite(values).all():
            raise ArgumentError(
                f"{path}: {name} must be finite numbers, is {values.dtype}: clean and encode them first."
            )
    inputs = x.reshape(len(x), -1).astype(np.float64)
    if y.dtype.kind == "f":
        targets = y.reshape(len(y), -1).astype(np.float64)
        return inputs, (targets - targets.mean(axis=0)) / (targets.std(axis=0) + 1e-12)
    if y.ndim != 1:
        raise ArgumentError(f"{path}: y of classes must have shape (n,), has {y.shape}.")
    classes = np.unique(y, return_inverse=True)[1].astype(np.int64)
    count, most = int(classes.max()) + 1, len(y) // 10
    if not 2 <= count <= most:
        raise ArgumentError(
            f"{path}: y must hold 2 to {most} classes, a tenth of its length, holds {count}: make it floats for a "
            "regression."
        )
    return inputs, classes
