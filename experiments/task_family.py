"""The tasks that the settings of a training name."""

from __future__ import annotations

import sys

import numpy as np

from rlsched._check import ArgumentError
from rlsched.agents import TaskSettings
from rlsched.envs.population import Population
from rlsched.envs.tasks import FAMILIES, Mixture, TaskFamily, UserFamily, load_task

WAYS = {
    "mlp": "side by side, stacked by hand (the fastest way)",
    "module": "side by side, stacked by torch.func",
    "eager": "one after another, the slowest way",
}


def task_family(settings: TaskSettings) -> TaskFamily:
    """The family of that name, or of the user's function."""
    if not settings.function:
        return _without(FAMILIES[settings.family](misjudged=settings.misjudged), settings)
    # As for `python -m`: what lies in the present folder can be imported.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return UserFamily(load_task(settings.function), misjudged=settings.misjudged)
    except (TypeError, ValueError) as error:
        raise ArgumentError(str(error)) from error


def _without(family: TaskFamily, settings: TaskSettings) -> TaskFamily:
    """`family` less the one that is to be left out."""
    if not settings.without:
        return family
    members = family.families if isinstance(family, Mixture) else ()
    names = {name: type(member) for member in members for name, make in FAMILIES.items() if type(member) is make}
    if settings.without not in names:
        raise ArgumentError(
            f"without must be among the families of {settings.family} ({', '.join(names) or 'none'}), "
            f"got {settings.without!r}."
        )
    assert isinstance(family, Mixture)
    kept = [
        (member, weight)
        for member, weight in zip(members, family.weights, strict=True)
        if type(member) is not names[settings.without]
    ]
    return Mixture([member for member, _ in kept], [weight for _, weight in kept])


def how_computed(family: TaskFamily, unstackable: str) -> str:
    """Which path a population takes for tasks of `family`; ArgumentError if none is allowed."""
    rng = np.random.default_rng(0)
    first = family.sample(rng)
    population = Population(
        [family.build(family.sample_like(rng, first)) for _ in range(4)], unstackable=unstackable
    )
    try:
        population.reset(range(4))
    except ValueError as error:
        raise ArgumentError(f"{error} On the command line: --tasks.unstackable eager.") from error
    path = population.paths[0]
    reason = f": {population.reasons[0]}" if path == "eager" else ""
    return f"Your task's runs are computed {WAYS[path]}{reason}."
