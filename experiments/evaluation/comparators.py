"""What is compared: ways to schedule a run, each with the learning rates it is tuned over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rlsched._check import ArgumentError
from rlsched.agents.rollouts import Setting, Weights
from rlsched.contract import Array, Controller, RunSpec
from rlsched.controllers import (
    REX,
    WSD,
    Constant,
    Cosine,
    FixedCurriculum,
    Guard,
    Linear,
    PolicyController,
    Warmup,
    curricula,
)
from rlsched.envs.drive import drive, trace
from rlsched.envs.episodes import Engine
from rlsched.envs.reward import relative_log_loss
from rlsched.envs.tasks import Task, TaskConfig
from rlsched.policy import Policy, PolicyMetadata

FACTORS = tuple((10.0 ** np.arange(-1.5, 1.6, 0.5)).tolist())
"""Multiples of a sensible learning rate that are tried where it is tuned: seven over three decades."""
MISJUDGED = (0.01, 1.0, 100.0)
"""Multiples of it that the learned policy gets as its base learning rate."""
FEW = 20
"""Decisions of a run whose schedule needs no telemetry, while it is tuned."""
SCHEDULES = {
    "linear": Linear(),
    "linear, warmed up": Warmup(Linear()),
    "cosine": Cosine(),
    "WSD": WSD(),
    "REX": REX(),
    "constant": Constant(),
}


class TestedEngine(Engine, Protocol):
    """An engine that can say how its runs do on test data."""

    def test_loss(self) -> Array:
        """(R,) mean loss of each row on its test data."""
        ...


@dataclass(frozen=True, eq=False)
class Ran:
    """How one training run went. Losses are ln(loss / that before training), clipped as the reward's.

    Attributes:
        validation: at the end.
        test: at the end.
        curve: (W,) validation loss at the end of each window.
        steps: (W,) steps done there.
        lr: (W,) learning rate at each window's first step; empty where the method's own is another quantity.
        bucket_weights: (W, K) in it.
        spent: optimizer steps it took, searches and branches included, over those of a run.
    """

    validation: float
    test: float
    curve: Array
    steps: Array
    lr: Array
    bucket_weights: Array
    spent: float = 1.0


class Comparator(ABC):
    """A way to schedule a run.

    Attributes:
        name: for people, unique.
        kind: "schedule", "curriculum", "library", "field", "driver", "default" or "policy".
        factors: multiples of the task's sensible learning rate that it is tuned over; one is not tuned.
        curriculum: whether it weighs buckets.
        learned: whether its runs depend on the policy under evaluation.
    """

    name: str
    kind: str
    factors: tuple[float, ...]
    curriculum: bool
    learned: bool = False

    @property
    def content(self) -> str:
        """All that tells its runs from another's: kept runs are found again by it.

        Raises:
            ArgumentError: it has none. What is told apart by its place in memory alone is another one next time.
        """
        found = repr(self)
        if " at 0x" in found:
            raise ArgumentError(
                f"{self.name!r} must be told apart by its repr, which is {found}: make its controller a dataclass."
            )
        return found

    def fits(self, config: TaskConfig) -> bool:
        """Whether it can schedule a run of the task of `config`."""
        return True

    @abstractmethod
    def train(
        self, setting: Setting, weights: Weights, tasks: Sequence[Task], seeds: Sequence[int], whole: bool
    ) -> list[Ran]:
        """Run each of `tasks`, at its base learning rate, from its seed.

        The same seed is the same model and data order for every comparator. `weights` are those of the policy that
        is evaluated. Unless `whole`, only how a run ends is wanted.
        """


@dataclass(frozen=True)
class Controlled(Comparator):
    """A controller, with runs computed side by side."""

    name: str
    controller: Controller
    kind: str = "schedule"
    factors: tuple[float, ...] = FACTORS
    curriculum: bool = False

    def fits(self, config: TaskConfig) -> bool:
        """Whether the controller takes such a run: some need one kind of optimizer, or buckets in an order."""
        ordered = config.num_buckets > 1 and config.bucket_by != "domain"
        spec = RunSpec.single(
            config.num_steps,
            config.num_decisions,
            config.base_lr,
            adaptive=config.optimizer != "sgd",
            batch_size=config.batch_size if config.batch_size_known else None,
            bucket_shares=np.ones(config.num_buckets),
            bucket_difficulty=np.linspace(0.0, 1.0, config.num_buckets) if ordered else None,
        )
        try:
            self.controller.init(spec)
        except ValueError:
            return False
        return True

    def train(
        self, setting: Setting, weights: Weights, tasks: Sequence[Task], seeds: Sequence[int], whole: bool
    ) -> list[Ran]:
        if not whole and not self.controller.reads and not self.curriculum:
            # What needs no telemetry is as good with few decisions, and takes a third of the time.
            tasks = [task if task.online else task.with_decisions(FEW) for task in tasks]
        # What reads validation losses is tuned with them.
        whole = whole or "validation_loss" in self.controller.reads
        return train_stacked(setting, self.controller, tasks, seeds, whole)


@dataclass(frozen=True)
class Learned(Comparator):
    """The policy under evaluation, in one untuned run."""

    name: str
    factors: tuple[float, ...]
    curriculum: bool
    kind: str = "policy"
    learned: bool = True

    def train(
        self, setting: Setting, weights: Weights, tasks: Sequence[Task], seeds: Sequence[int], whole: bool
    ) -> list[Ran]:
        policy = Policy(dict(weights), PolicyMetadata(setting.interface.action))
        return train_stacked(setting, Guard(PolicyController(policy)), tasks, seeds, whole)


def train_stacked(
    setting: Setting, controller: Controller, tasks: Sequence[Task], seeds: Sequence[int], whole: bool
) -> list[Ran]:
    """The runs of `tasks` under `controller`, side by side."""
    population = setting.population(list(tasks))
    population.reset(list(seeds))
    return record(population, controller, tasks, whole)


def record(engine: TestedEngine, controller: Controller, tasks: Sequence[Task], whole: bool) -> list[Ran]:
    """How the runs of `engine`, at their start, go under `controller`.

    It is told validation losses where a task reports them. Unless `whole`, it reads none of them, and there are no
    curves.
    """
    first_validation, first_test = engine.validation_loss(), engine.test_loss()
    base = np.array([task.config.base_lr for task in tasks])
    feedback = np.array([task.config.feedback for task in tasks])
    traces = trace(engine, controller, feedback) if whole else None
    final = drive(engine, controller) if traces is None else traces.final
    sound = np.isfinite(final)
    test = engine.test_loss()
    test = relative_log_loss(test, first_test, sound & np.isfinite(test))
    validation = relative_log_loss(final, first_validation, sound)
    if traces is None:
        return [Ran(float(v), float(t), *_NO_CURVES) for v, t in zip(validation, test, strict=True)]
    curves = relative_log_loss(traces.validation, first_validation[:, None], np.isfinite(traces.validation))
    ran = []
    for row in range(len(tasks)):
        seen = np.isfinite(traces.steps[row])
        ran.append(
            Ran(
                float(validation[row]), float(test[row]), curves[row, seen], traces.steps[row, seen],
                base[row] * traces.lr_scale[row, seen], traces.bucket_weights[row, seen],
            )
        )  # fmt: skip
    return ran


_NO_CURVES = (np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, 0)))


def schedules() -> list[Comparator]:
    """The schedules whose learning rate is tuned per task; the best of them is what a policy has to beat."""
    return [Controlled(name, controller) for name, controller in SCHEDULES.items()]


def default(schedule: str, factor: float) -> Comparator:
    """One of `SCHEDULES` at one factor for all tasks."""
    return Controlled(f"best single default ({schedule} x{factor:.2g})", SCHEDULES[schedule], "default", (factor,))


def fixed_curricula(num_buckets: int) -> list[Comparator]:
    """Every fixed curriculum but the natural mixture, with linear decay tuned along."""
    return [
        Controlled(f"linear, {each.name}", FixedCurriculum(Linear(), each), "curriculum", curriculum=True)
        for each in curricula(num_buckets)[1:]
    ]


def policies(num_buckets: int) -> list[Comparator]:
    """The policy from each of `MISJUDGED`, with the natural mixture and, if there are buckets, a curriculum."""
    kinds = {"LR only": False} | ({"LR and curriculum": True} if num_buckets > 1 else {})
    return [
        Learned(f"rlsched, {kind}, base x{factor:g}", (factor,), acts)
        for kind, acts in kinds.items()
        for factor in MISJUDGED
    ]
