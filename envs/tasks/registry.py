"""The families by name, and what each draws."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsched import _check
from rlsched.envs.tasks.autoencoder import Autoencoder
from rlsched.envs.tasks.characters import Characters
from rlsched.envs.tasks.continual import Continual
from rlsched.envs.tasks.diffusion import Diffusion
from rlsched.envs.tasks.digits import Digits
from rlsched.envs.tasks.digits_cnn import DigitsCNN
from rlsched.envs.tasks.mixture import Mixture
from rlsched.envs.tasks.modular import Modular
from rlsched.envs.tasks.parity import Parity
from rlsched.envs.tasks.quadratics import Quadratics
from rlsched.envs.tasks.signals import Signals
from rlsched.envs.tasks.tabular import Tabular
from rlsched.envs.tasks.task import TaskConfig, TaskFamily
from rlsched.envs.tasks.teacher import Teacher

# By cost: a step of a sequence model takes 10 times that of an MLP (stacked, 25 to 120), of a convolution 2 to 3
# times. Parity and modular addition are rare because many of their runs never leave the plateau.
_BROAD: dict[type[Any], float] = {
    Digits: 6.0,
    Tabular: 3.0,
    Teacher: 6.0,
    DigitsCNN: 2.0,
    Signals: 4.0,
    Characters: 1.0,
    Parity: 1.0,
    Modular: 1.0,
    Autoencoder: 3.0,
}

_WIDE: dict[type[Any], float] = {
    Digits: 6.0,
    Tabular: 5.0,
    Teacher: 5.0,
    DigitsCNN: 1.0,
    Signals: 2.5,
    Characters: 1.2,
    Parity: 0.7,
    Modular: 0.7,
    Autoencoder: 2.0,
}


_CNNS = (DigitsCNN, Signals)
"""Families with networks that can have normalisation layers."""
_UNSCALED = (Characters, Modular)
"""Families whose inputs have no scale: tokens and one-hot vectors."""

_PRACTICE: dict[type[Any], float] = _BROAD | {
    Tabular: 5.0,
    DigitsCNN: 3.0,
    Characters: 1.5,
    Parity: 0.5,
    Modular: 0.5,
}


def broad(num_buckets: int = 4, misjudged: float = 100.0) -> Mixture:
    """Every family but the quadratics, cheap and varied ones more often. See `DataFamily` for the arguments."""
    families = [family(num_buckets=num_buckets, misjudged=misjudged) for family in _BROAD]
    return Mixture(families, list(_BROAD.values()))


def short(num_buckets: int = 4, misjudged: float = 100.0) -> Mixture:
    """The families of `broad` in runs of 60 to 300 steps (sequence models to 120) of batches of 64 at most.

    What the default preset trains on: a search or a rollout takes seconds, where `broad` can take minutes.
    """
    return _cut(_BROAD, (300, 64), (120, 64), num_buckets=num_buckets, misjudged=misjudged)


def wide(num_buckets: int = 4, misjudged: float = 100.0) -> Mixture:
    """The families of `broad` in runs of 60 to 600 steps (sequence models to 200), two fifths with a curriculum.

    What policies are evaluated on, see `rlsched evaluate`; a part of it is longer than what the preset default
    trains on.
    """
    return _cut(_WIDE, (600, 64), (200, 32), num_buckets=num_buckets, misjudged=misjudged, steered=0.4)


def practice(num_buckets: int = 4, misjudged: float = 100.0) -> Mixture:
    """The families of `broad` in runs of 60 to 600 steps (sequence models to 250) and 1 to 20 epochs, or to 100.

    What policies for everybody are trained on. The best learning rate goes by the epochs, as far as runs overfit.
    Half of the tasks tell them and have 1 to 100. The others have 20 at most: were there more, a policy that is
    not told would learn that a lower learning rate is the safe one. So that it does not learn what a length of
    updates means on one kind of weights alone, half of the CNNs have normalisation layers, half of the
    transformers normalise after their layers, and inputs are up to four times as large or small as standardised
    ones, half of them with another mean than zero. Half of the tasks have a curriculum: most runs that a policy
    will schedule have none.
    """
    return _cut(
        _PRACTICE, (600, 64), (250, 32),
        num_buckets=num_buckets, misjudged=misjudged, epochs=(1.0, 20.0), told_epochs=(1.0, 100.0),
        normalised=0.5, post_norm=0.5, input_scales=4.0, off_centre=0.5, steered=0.5,
    )  # fmt: skip


def _cut(
    weights: dict[type[Any], float],
    most: tuple[int, int],
    most_of_sequences: tuple[int, int],
    *,
    normalised: float = 0.0,
    post_norm: float = 0.0,
    input_scales: float = 1.0,
    off_centre: float = 0.0,
    **options: Any,
) -> Mixture:
    """Families by their weights, in runs of at least 60 steps, with the most steps and the largest batch given."""
    families = []
    for family in weights:
        max_steps, max_batch = most_of_sequences if family is Characters else most
        own = {}
        if family in _CNNS:
            own["normalised"] = normalised
        if family is Characters:
            own["post_norm"] = post_norm
        if family not in _UNSCALED:
            own |= {"input_scales": input_scales, "off_centre": off_centre}
        families.append(family(min_steps=60, max_steps=max_steps, max_batch=max_batch, **options, **own))
    return Mixture(families, list(weights.values()))


def quick(num_buckets: int = 4, misjudged: float = 100.0) -> Digits:
    """Short runs of small MLPs on digits: a policy is learned on them in minutes."""
    return Digits(num_buckets=num_buckets, misjudged=misjudged, min_steps=60, max_steps=250, max_batch=64)


FAMILIES: dict[str, Callable[..., TaskFamily]] = {
    "digits": Digits,
    "tabular": Tabular,
    "teacher": Teacher,
    "digits_cnn": DigitsCNN,
    "signals": Signals,
    "characters": Characters,
    "parity": Parity,
    "modular": Modular,
    "autoencoder": Autoencoder,
    "diffusion": Diffusion,
    "continual": Continual,
    "quadratics": Quadratics,
    "broad": broad,
    "short": short,
    "wide": wide,
    "practice": practice,
    "quick": quick,
}
"""What makes each family; all take `num_buckets` and `misjudged`."""


@dataclass(frozen=True)
class FieldRange:
    """What one setting was in the tasks that were drawn.

    Attributes:
        config: name of the type of the settings.
        share: of the tasks drawn that were of this type, in (0, 1].
        field: name of the setting.
        values: "low to high" and the median of numbers, or how often each other value was drawn.
    """

    config: str
    share: float
    field: str
    values: str


def describe(family: TaskFamily, rng: np.random.Generator, count: int = 500) -> list[FieldRange]:
    """The range of every setting in `count` tasks drawn from `family`, type by type of their settings."""
    _check.integer("count", count, 1)
    drawn: defaultdict[type[TaskConfig], list[TaskConfig]] = defaultdict(list)
    for _ in range(count):
        config = family.sample(rng)
        drawn[type(config)].append(config)
    return [
        FieldRange(
            kind.__name__, len(configs) / count, field.name, _summary([getattr(c, field.name) for c in configs])
        )
        for kind, configs in sorted(drawn.items(), key=lambda item: item[0].__name__)
        for field in dataclasses.fields(kind)
    ]


def _summary(values: Sequence[Any]) -> str:
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        low, high = min(values), max(values)
        return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}, median {np.median(values):.4g}"
    counts = Counter(str(value) for value in values)
    return ", ".join(f"{value} {count / len(values):.0%}" for value, count in sorted(counts.items()))
