"""Open-loop schedules: the learning rate as a function of progress, over the natural mixture of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
