"""Data labelled by a random network, the teacher, for a student that need not be like it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from rlsched import _check
from rlsched.contract import Array
from rlsched.envs.tasks.assemble import Pool, assemble
from rlsched.envs.tasks.data import DataFamily, log_uniform
from rlsched.envs.tasks.losses import cross_entropy, squared_error
from rlsched.envs.tasks.models import ACTIVATIONS, mlp
from rlsched.envs.tasks.perceptron import PerceptronConfig, sample_perceptron
from rlsched.envs.tasks.task import Task, TaskConfig, expect


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(PerceptronConfig):
    """One teacher task; width, depth, activation and init_scale are the student's.

    Attributes:
        pool_size: examples of which a fifth each is kept for validation and test, at least 20.
        num_features: Gaussian inputs, in [1, 1024].
        regression: whether targets are the teacher's outputs, or the largest output is the class.
        num_classes: classes of a classification, in [2, 100].
        num_targets: real targets of a regression, in [1, 100].
        teacher_width: hidden units of each hidden layer of the teacher, in [1, 4096].
        teacher_depth: its hidden layers, in [0, 8].
        teacher_activation: one of `models.ACTIVATIONS`.
        teacher_scale: its weights relative to torch's default initialisation, in [0.01, 100]: larger ones make
            rougher functions.
    """

    pool_size: int = 1500
    num_features: int = 16
    regression: bool = False
    num_classes: int = 4
    num_targets: int = 1
    teacher_width: int = 32
    teacher_depth: int = 1
    teacher_activation: str = "relu"
    teacher_scale: float = 1.0

    shared: ClassVar[tuple[str, ...]] = (*PerceptronConfig.shared, "regression")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.integer("pool_size", self.pool_size, 20)
        _check.integer("num_features", self.num_features, 1, 1024)
        _check.integer("num_classes", self.num_classes, 2, 100)
        _check.integer("num_targets", self.num_targets, 1, 100)
        _check.integer("teacher_width", self.teacher_width, 1, 4096)
        _check.integer("teacher_depth", self.teacher_depth, 0, 8)
        _check.choice("teacher_activation", self.teacher_activation, ACTIVATIONS)
        _check.real("teacher_scale", self.teacher_scale, 0.01, 100.0)


@dataclass(frozen=True)
class Teacher(DataFamily):
    """Teacher tasks: half are classifications of 2 to 10 classes, half regressions of 1 to 4 targets."""

    reference_lr: ClassVar[dict[str, float]] = {"sgd": 0.03, "adam": 0.01, "adamw": 0.01}
    most_examples: ClassVar[float] = 8000
    config_type: ClassVar = TeacherConfig

    def sample(self, rng: np.random.Generator) -> TeacherConfig:
        """Settings of one task."""
        teacher = sample_perceptron(rng)
        common = self.common(rng)
        return TeacherConfig(
            **common,
            **sample_perceptron(rng),
            init_scale=log_uniform(rng, 0.5, 2.0),
            # Three fifths are trained on.
            pool_size=max(
                round(log_uniform(rng, 600, 2500)), math.ceil(common["num_examples"] / 0.6) if self.epochs else 0
            ),
            num_features=round(log_uniform(rng, 4, 64)),
            regression=bool(rng.random() < 0.5),
            num_classes=int(rng.integers(2, 11)),
            num_targets=int(rng.integers(1, 5)),
            teacher_width=teacher["width"],
            teacher_depth=teacher["depth"],
            teacher_activation=teacher["activation"],
            teacher_scale=log_uniform(rng, 0.5, 2.0),
        )

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `TeacherConfig`."""
        config = expect(config, TeacherConfig)
        rng = np.random.default_rng(config.data_seed)
        inputs = rng.standard_normal((config.pool_size, config.num_features))
        outputs = _teach(config, inputs, int(rng.integers(2**63)))
        pool = (
            Pool(inputs, outputs)
            if config.regression
            else Pool(inputs, outputs.argmax(axis=1), num_classes=config.num_classes)
        )
        return assemble(
            config,
            pool,
            rng,
            make_model=config.network(config.num_features, outputs.shape[1]),
            loss=squared_error if config.regression else cross_entropy,
        )


def _teach(config: TeacherConfig, inputs: Array, seed: int) -> Array:
    """Outputs (n, T) of a teacher for inputs (n, d), each of mean 0 and variance 1, so that classes are alike."""
    hidden = [config.teacher_width] * config.teacher_depth
    sizes = [config.num_features, *hidden, config.num_targets if config.regression else config.num_classes]
    teacher = mlp(sizes, config.teacher_activation, torch.Generator().manual_seed(seed), config.teacher_scale)
    with torch.no_grad():
        outputs: Array = teacher(torch.from_numpy(inputs).float()).double().numpy()
    return (outputs - outputs.mean(axis=0)) / (outputs.std(axis=0) + 1e-12)
