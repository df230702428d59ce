"""Suites: the tasks that a policy is evaluated on. Neither training nor the choice of a policy saw them."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlsched import _check
from rlsched.agents import TaskSettings
from rlsched.agents.evaluation import evaluation_seeds
from rlsched.envs.tasks import (
    FAMILIES,
    Arrays,
    Characters,
    CharactersConfig,
    DigitsCNN,
    DigitsCNNConfig,
    Mixture,
    TaskConfig,
    TaskFamily,
)
from rlsched.experiments.task_family import task_family

PURPOSE = 3
"""Of the seeds, see `evaluation_seeds`."""


@dataclass(frozen=True)
class Group:
    """Tasks that can be computed together.

    Attributes:
        family: name of what they are of, by which results are stratified.
        configs: of the tasks.
        seed: of their runs.
    """

    family: str
    configs: tuple[TaskConfig, ...]
    seed: int


@dataclass(frozen=True, eq=False)
class Suite:
    """Tasks, in groups.

    Attributes:
        name: as on the command line.
        tasks: the family that builds them.
        groups: at least one.
        content: what else tells these tasks from others of the same settings: a digest of a file or of code.
    """

    name: str
    tasks: TaskFamily
    groups: tuple[Group, ...]
    content: str = ""

    @property
    def configs(self) -> list[TaskConfig]:
        """Of all tasks, in order."""
        return [config for group in self.groups for config in group.configs]

    @property
    def numbers(self) -> list[int]:
        """(n,) number of the group that each task is in."""
        return [number for number, group in enumerate(self.groups) for _ in group.configs]

    @property
    def families(self) -> list[str]:
        """(n,) what each task is of."""
        return [group.family for group in self.groups for _ in group.configs]


def make_suite(name: str, seed: int = 0, groups: int = 0) -> Suite:
    """The suite that `name` names: one of `SUITES`, an `.npz` file, or a function "package.module:function".

    Args:
        name: of the suite.
        seed: of its tasks.
        groups: of four tasks that can be computed together, of each family in the suite; 0 for its usual number.

    Raises:
        ArgumentError, FileNotFoundError: there is no such suite.
    """
    _check.integer("groups", groups, 0)
    if name in SUITES:
        return SUITES[name](name, seed, groups)
    if name.endswith(".npz"):
        arrays = Arrays(path=str(Path(name).resolve()))
        suite = _drawn(name, arrays, ["arrays"], seed, groups or 4)
        return dataclasses.replace(suite, content=hashlib.sha256(Path(name).read_bytes()).hexdigest())
    if ":" in name:
        family = task_family(TaskSettings(function=name, unstackable="eager"))
        suite = _drawn(name, family, [name], seed, groups or 2)
        return dataclasses.replace(suite, content=hashlib.sha256(_source(family).encode()).hexdigest())
    raise _check.ArgumentError(
        f"suite must be {', '.join(SUITES)}, an .npz file with x and y, or package.module:function, got {name!r}."
    )


def _source(family: TaskFamily) -> str:
    """The module that the function of a `UserFamily` is in; empty if it is in none that can be read."""
    try:
        return inspect.getsource(sys.modules[family.function.__module__])  # type: ignore[attr-defined]
    except (OSError, TypeError, KeyError):
        return ""


def _quick(name: str, seed: int, groups: int) -> Suite:
    return _drawn(name, FAMILIES["quick"](), ["digits"], seed, groups or 6)


def _standard(name: str, seed: int, groups: int) -> Suite:
    """Every family alike: unlike training's mixture, so that no family is judged by a handful of tasks."""
    tasks = FAMILIES["wide"]()
    assert isinstance(tasks, Mixture)
    return _drawn(name, tasks, [_name_of(family) for family in tasks.families], seed, groups or 3)


def _name_of(family: TaskFamily) -> str:
    """As in `FAMILIES`."""
    return next(name for name, make in FAMILIES.items() if make is type(family))


def _drawn(name: str, tasks: TaskFamily, families: Sequence[str], seed: int, groups: int) -> Suite:
    members = tasks.families if isinstance(tasks, Mixture) else (tasks,)
    found = []
    for number, (label, family) in enumerate(zip(families, members, strict=True)):
        for each in evaluation_seeds(seed, groups * len(members), PURPOSE)[number :: len(members)]:
            rng = np.random.default_rng(each)
            first = family.sample(rng)
            configs = (first, *(family.sample_like(rng, first) for _ in range(3)))
            found.append(Group(label, configs, each))
    return Suite(name, tasks, tuple(found))


def _transfer(name: str, seed: int, groups: int) -> Suite:
    """Models of more than half a million parameters in runs ten times longer than the longest of training."""
    tasks = Mixture([DigitsCNN(), Characters()])
    found = []
    for each in evaluation_seeds(seed, groups or 1, PURPOSE):
        rng = np.random.default_rng(each)
        for noise in (0.0, 0.3):
            cnn = DigitsCNN(min_steps=6000, max_steps=6000, min_batch=32, max_batch=32).sample(rng)
            found.append(_plain(cnn, each, channels=176, label_noise=noise))
            characters = Characters(min_steps=2000, max_steps=2000, min_batch=16, max_batch=16).sample(rng)
            found.append(_plain(characters, each, model="transformer", width=128, layers=3, label_noise=noise))
    return Suite(name, tasks, tuple(found))


def _plain(config: DigitsCNNConfig | CharactersConfig, seed: int, **changes: Any) -> Group:
    """A group of one, of that size, with nothing else the matter."""
    as_it_is: dict[str, Any] = {
        "optimizer": "adamw", "num_decisions": 50, "num_examples": 1000, "imbalance": 1.0, "duplicates": 0.0,
        "domain_skew": 0.0, "drift": 0.0, "bucket_by": "difficulty", "scorer": "probe",
    }  # fmt: skip
    family = "CNN" if isinstance(config, DigitsCNNConfig) else "transformer"
    return Group(family, (dataclasses.replace(config, **(as_it_is | changes)),), seed)


SUITES: dict[str, Callable[[str, int, int], Suite]] = {
    "quick": _quick,
    "standard": _standard,
    "heldout-families": _standard,
    "transfer": _transfer,
}
"""By name. In "heldout-families" the tasks are those of "standard", and each family is judged with a policy that
was trained without it."""
