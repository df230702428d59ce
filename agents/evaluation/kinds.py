"""Kinds of tasks, by which scores and behaviours are told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from rlsched.envs.tasks import DataConfig, TaskConfig

Which = Callable[[TaskConfig], bool]


def _data(holds: Callable[[DataConfig], bool]) -> Which:
    """False of tasks that say nothing of their data."""
    return lambda config: isinstance(config, DataConfig) and holds(config)


def _of(family: type[TaskConfig]) -> Which:
    return lambda config: type(config) is family


FLAWS: Mapping[str, Which] = MappingProxyType(
    {
        "noisy labels": _data(lambda config: config.label_noise > 0),
        "imbalanced": _data(lambda config: config.imbalance < 1),
        "duplicates": _data(lambda config: config.duplicates > 0),
        "domains": _data(lambda config: config.domain_skew > 0),
        "drift": _data(lambda config: config.drift > 0),
    }
)
"""What can be the matter with a task's data; see docs/tasks.md. A task can have several."""

FLAWLESS: Which = _data(lambda config: not any(has(config) for has in FLAWS.values()))


def kinds(configs: Sequence[TaskConfig]) -> dict[str, Which]:
    """Those that some of `configs` are of: all tasks, by flaw and feedback, and the families if several."""
    found: dict[str, Which] = {
        "all": lambda config: True,
        "clean labels": _data(lambda config: not config.label_noise),
        "no flaw": FLAWLESS,
        **FLAWS,
        "validation losses reported": lambda config: config.feedback,
        "none reported": lambda config: not config.feedback,
    }
    families = sorted({type(config) for config in configs}, key=lambda kind: kind.__name__)
    if len(families) > 1:
        for family in families:
            found[family.__name__.removesuffix("Config")] = _of(family)
    return {name: which for name, which in found.items() if any(which(config) for config in configs)}
