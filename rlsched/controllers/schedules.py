"""Open-loop schedules: the learning rate as a function of progress, over the natural mixture of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array, Decision, RunSpec, State, Window


@dataclass(frozen=True)
class OpenLoop:
    """A controller whose learning rate is `base_lr * profile(progress)`. Subclasses define `profile`."""

    reads = frozenset[str]()

    def profile(self, progress: Array) -> Array:
        """Multiplier of the base learning rate at `progress` in [0, 1], any shape."""
        raise NotImplementedError

    def init(self, spec: RunSpec) -> State:
        """Nothing to remember."""
        return {}

    def decide(self, state: State, window: Window) -> tuple[State, Decision]:
        """The profile over the coming window."""
        return state, Decision(self.profile(window.progress_ahead()), window.spec.bucket_shares)


@dataclass(frozen=True)
class Constant(OpenLoop):
    """The base learning rate throughout.

    >>> Constant().profile(np.array([0.0, 0.5, 1.0])).tolist()
    [1.0, 1.0, 1.0]
    """

    def profile(self, progress: Array) -> Array:
        return np.ones_like(progress)


@dataclass(frozen=True)
class Linear(OpenLoop):
    """Linear decay to zero, `1 - p` (Defazio et al. 2023, arXiv:2310.07831).

    >>> Linear().profile(np.array([0.0, 0.25, 1.0])).tolist()
    [1.0, 0.75, 0.0]
    """

    def profile(self, progress: Array) -> Array:
        return 1.0 - progress


@dataclass(frozen=True)
class Cosine(OpenLoop):
    """Cosine decay to zero, `(1 + cos(pi p)) / 2` (Loshchilov and Hutter 2017, arXiv:1608.03983).

    >>> Cosine().profile(np.array([0.0, 0.5, 1.0])).round(9).tolist()
    [1.0, 0.5, 0.0]
    """

    def profile(self, progress: Array) -> Array:
        return 0.5 * (1.0 + np.cos(np.pi * progress))


@dataclass(frozen=True)
class WSD(OpenLoop):
    """Constant, then linear decay to zero over the last `cooldown` of the run: `min(1, (1 - p) / cooldown)`.

    Warmup, stable, decay (Hu et al. 2024, MiniCPM, arXiv:2404.06395), without the warm-up.

    Attributes:
        cooldown: share of the run, in (0, 1].

    >>> WSD(0.2).profile(np.array([0.0, 0.8, 0.9, 1.0])).round(9).tolist()
    [1.0, 1.0, 0.5, 0.0]
    """

    cooldown: float = 0.2

    def __post_init__(self) -> None:
        _check.real("cooldown", self.cooldown, 1e-6, 1.0)

    def profile(self, progress: Array) -> Array:
        return np.minimum(1.0, (1.0 - progress) / self.cooldown)


@dataclass(frozen=True)
class REX(OpenLoop):
    """Reflected exponential, `(1 - p) / (1/2 + (1 - p) / 2)` (Chen et al. 2021, arXiv:2107.04197).

    >>> REX().profile(np.array([0.0, 0.5, 1.0])).round(6).tolist()
    [1.0, 0.666667, 0.0]
    """

    def profile(self, progress: Array) -> Array:
        return (1.0 - progress) / (0.5 + 0.5 * (1.0 - progress))


@dataclass(frozen=True)
class Warmup(OpenLoop):
    """Another schedule, times a linear rise from zero over the first `share` of the run: `min(1, p / share)`.

    Attributes:
        schedule: the other one.
        share: of the run, in (0, 1].

    >>> Warmup(Constant(), 0.1).profile(np.array([0.0, 0.05, 0.1, 1.0])).round(9).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """

    schedule: OpenLoop
    share: float = 0.05

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, OpenLoop):
            raise TypeError(
                f"schedule must be an open-loop schedule, got {type(self.schedule).__name__}: give for example "
                "Linear()."
            )
        _check.real("share", self.share, 1e-6, 1.0)

    def profile(self, progress: Array) -> Array:
        return np.minimum(1.0, progress / self.share) * self.schedule.profile(progress)
