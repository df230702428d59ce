"""The contract between a training run and whatever schedules it.

A *host* (the scheduler of a user's run, the Gymnasium environment) advances a run window by window. Before
each window it asks a `Controller` for a `Decision`; after it, it reports a `Window` of telemetry. The same
controllers serve every host, so that what is trained is what is used.

Everything carries a leading axis of R runs; a single run is R = 1. Time is passed in, never counted inside.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rlsched import _check
from rlsched.decision_times import decision_steps

Array = npt.NDArray[Any]
State = dict[str, Any]
"""A controller's state: a (possibly nested) dict of arrays whose leading axis is R."""

RUN_TELEMETRY = frozenset(
    {"loss", "grad_norm", "update_ratio", "grad_agreement", "bucket_loss", "validation_loss"}
)
"""Measured fields of `Window` that every host can provide."""
GROUP_TELEMETRY = frozenset({"group_alpha", "group_rotation"})
"""Those that are measured of each parameter group, by hosts with `RunSpec.group_rates`."""
TELEMETRY = RUN_TELEMETRY | GROUP_TELEMETRY
"""What a controller may declare in `reads`."""


@dataclass(frozen=True, eq=False)
class RunSpec:
    """What is fixed about R runs.

    Attributes:
        num_steps: (R,) optimizer steps of each run, T.
        decision_steps: (R, N) steps at which a controller decides, strictly increasing from 1 and padded
            with T in runs that have fewer than N. The stretch before the first one is the *opening*.
        base_lr: (R, G) learning rate of each parameter group; decisions multiply it.
        adaptive: (R,) whether the optimizer rescales gradients by coordinate (Adam and its kin) or not (SGD).
        batch_size: (R,) examples per step, NaN where unknown.
        epochs: (R,) passes over the training data that the run makes, NaN where unknown.
        bucket_shares: (R, K) share of each data bucket in the data; rows sum to 1.
        bucket_difficulty: (R, K) rank of each bucket's difficulty in [0, 1], 0.5 where there is no order.
        curriculum: (R,) whether the run draws its batches by bucket weights.
        group_rates: (R,) whether parameter groups are measured, and scaled by decisions, one by one. Hosts that
            cannot do it leave it at False, and controllers that need it are refused.
    """

    num_steps: Array
    decision_steps: Array
    base_lr: Array
    adaptive: Array
    batch_size: Array
    epochs: Array
    bucket_shares: Array
    bucket_difficulty: Array
    curriculum: Array
    group_rates: Array = dataclasses.field(default_factory=lambda: np.zeros(1, dtype=bool))

    def __post_init__(self) -> None:
        object.__setattr__(self, "group_rates", np.broadcast_to(self.group_rates, self.num_steps.shape))

    @classmethod
    def single(
        cls,
        num_steps: int,
        num_decisions: int,
        base_lr: npt.ArrayLike,
        *,
        adaptive: bool,
        batch_size: int | None = None,
        epochs: float | None = None,
        bucket_shares: npt.ArrayLike = (1.0,),
        bucket_difficulty: npt.ArrayLike | None = None,
        curriculum: bool | None = None,
        group_rates: bool = False,
    ) -> RunSpec:
        """The spec of one run (R = 1), validated.

        Args:
            num_steps: optimizer steps, at least 2.
            num_decisions: decisions after the opening, in [1, num_steps - 1]; see `decision_steps`.
            base_lr: learning rate, or (G,) one for each parameter group; non-negative.
            adaptive: whether the optimizer is of Adam's kind.
            batch_size: examples per step, or None if unknown.
            epochs: passes over the training data that the run makes, positive; or None if unknown.
            bucket_shares: (K,) positive, normalised here.
            bucket_difficulty: (K,) ranks in [0, 1], or None if the buckets have no order.
            curriculum: whether bucket weights can be set; by default if there are at least two buckets.
            group_rates: whether the host measures and scales parameter groups one by one.

        Raises:
            TypeError, ValueError: naming the argument, its range and the value.
        """
        shares = _check.vector("bucket_shares", bucket_shares)
        if (shares <= 0).any():
            raise ValueError(f"bucket_shares must be positive, got {shares.min()}: leave empty buckets out.")
        if bucket_difficulty is None:
            difficulty = np.full_like(shares, 0.5)
        else:
            difficulty = _check.vector("bucket_difficulty", bucket_difficulty)
            if difficulty.shape != shares.shape or (difficulty < 0).any() or (difficulty > 1).any():
                raise ValueError(
                    f"bucket_difficulty must be {shares.size} ranks in [0, 1], got {difficulty.tolist()}."
                )
        lr = _check.vector("base_lr", [base_lr] if np.ndim(base_lr) == 0 else base_lr)
        if (lr < 0).any():
            raise ValueError(f"base_lr must be >= 0, got {lr.min()}.")
        if batch_size is not None:
            batch_size = _check.integer("batch_size", batch_size, 1)
        if epochs is not None:
            epochs = _check.positive("epochs", epochs)
        steps = decision_steps(num_steps, num_decisions)
        return cls(
            num_steps=np.array([num_steps]),
            decision_steps=steps[None],
            base_lr=lr[None],
            adaptive=np.array([bool(adaptive)]),
            batch_size=np.array([np.nan if batch_size is None else float(batch_size)]),
            epochs=np.array([np.nan if epochs is None else epochs]),
            bucket_shares=(shares / shares.sum())[None],
            bucket_difficulty=difficulty[None],
            curriculum=np.array([shares.size > 1 if curriculum is None else bool(curriculum)]),
            group_rates=np.array([bool(group_rates)]),
        )

    @classmethod
    def stack(cls, specs: Sequence[RunSpec]) -> RunSpec:
        """The runs of all `specs` as one, with the same number of buckets; missing groups have a rate of NaN."""
        groups = max(spec.base_lr.shape[1] for spec in specs)
        most = max(spec.decision_steps.shape[1] for spec in specs)
        padded = []
        for spec in specs:
            missing = most - spec.decision_steps.shape[1]
            ends = np.repeat(spec.num_steps[:, None], missing, axis=1)
            padded.append(np.concatenate([spec.decision_steps, ends], axis=1))
        rates = []
        for spec in specs:
            missing = groups - spec.base_lr.shape[1]
            rates.append(np.concatenate([spec.base_lr, np.full((spec.num_runs, missing), np.nan)], axis=1))
        fields = {
            name: np.concatenate([getattr(spec, name) for spec in specs])
            for name in cls.__dataclass_fields__
            if name not in ("decision_steps", "base_lr")
        }
        return cls(decision_steps=np.concatenate(padded), base_lr=np.concatenate(rates), **fields)

    @property
    def num_runs(self) -> int:
        """R."""
        return int(self.num_steps.shape[0])

    @property
    def num_buckets(self) -> int:
        """K."""
        return int(self.bucket_shares.shape[1])

    @property
    def num_groups(self) -> int:
        """G."""
        return int(self.base_lr.shape[1])

    def require_group_rates(self, name: str) -> None:
        """ValueError, for `name`, if a run of these has one learning rate for all of its parameter groups."""
        if not self.group_rates.all():
            raise ValueError(
                f"{name} needs a host that measures and scales each parameter group by itself, and this one does "
                "not: use it in an RLScheduler, or in TorchRun(task, controller.reads, group_rates=True)."
            )

    @property
    def num_decisions(self) -> Array:
        """(R,) decisions of each run after its opening."""
        return (self.decision_steps < self.num_steps[:, None]).sum(axis=1)

    @functools.cached_property
    def _bounds(self) -> Array:
        """(R, N + 2) the steps at which windows begin, from 0, and T."""
        zero = np.zeros((self.num_runs, 1), dtype=self.decision_steps.dtype)
        return np.concatenate([zero, self.decision_steps, self.num_steps[:, None]], axis=1)

    def boundary(self, index: Array) -> Array:
        """(R,) step at which window `index` (R,) begins; window 0 is the opening, past the last it is T."""
        bounds = self._bounds
        return np.take_along_axis(bounds, np.minimum(index, bounds.shape[1] - 1)[:, None], axis=1)[:, 0]


@dataclass(frozen=True, eq=False)
class Window:
    """What happened in R runs since the last decision.

    A measurement that was not taken is NaN; a loss that was taken and was not finite is +inf.

    Attributes:
        spec: the runs.
        step: (R,) optimizer steps done so far.
        decision: (R,) decisions taken so far; 0 before the opening.
        loss: (R,) mean training loss of the window's steps.
        loss_slope: (R,) change of the loss over the window by a least-squares line, divided by `loss`.
        loss_noise: (R,) standard deviation of the loss about that line, divided by `loss`.
        grad_norm: (R,) geometric mean of the gradient norm on the sampled steps.
        grad_spread: (R,) standard deviation of the log gradient norm on them.
        update_ratio: (R,) geometric mean of |update| / |parameters| on them, over steps and weight matrices; see
            `telemetry.update_ratio`.
        grad_agreement: (R,) mean cosine between consecutive gradients, in [-1, 1].
        bucket_loss: (R, K) mean loss of the examples drawn from each bucket.
        validation_loss: (R,) the latest validation loss reported in the window.
        nonfinite: (R,) steps of the window whose loss was not finite.
        alarm: (R,) whether the host ended the window early because a loss was not finite or had exploded.
        group_alpha: (R, G) exponent of the power law that the weight spectra of each parameter group follow, the
            mean over its matrices (`telemetry.hill_exponent`); NaN for a group without. None if the host was not
            asked for it.
        group_rotation: (R, G) cosine distance, in [0, 2], between the matrices of each group before and after an
            update, the mean over the sampled steps; otherwise as `group_alpha`.
    """

    spec: RunSpec
    step: Array
    decision: Array
    loss: Array
    loss_slope: Array
    loss_noise: Array
    grad_norm: Array
    grad_spread: Array
    update_ratio: Array
    grad_agreement: Array
    bucket_loss: Array
    validation_loss: Array
    nonfinite: Array
    alarm: Array
    group_alpha: Array | None = None
    group_rotation: Array | None = None

    @classmethod
    def opening(cls, spec: RunSpec) -> Window:
        """The empty window before the first step, with which a controller chooses the opening."""
        none = np.full(spec.num_runs, np.nan)
        zero = np.zeros(spec.num_runs, dtype=np.int64)
        return cls(
            spec, zero, zero, none, none, none, none, none, none, none,
            np.full(spec.bucket_shares.shape, np.nan), none, zero, np.zeros(spec.num_runs, dtype=bool),
        )  # fmt: skip

    def replace(self, **changes: Any) -> Window:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def progress(self) -> Array:
        """(R,) share of the run that is done, in [0, 1]."""
        return self.step / self.spec.num_steps

    @property
    def steps_ahead(self) -> Array:
        """(R,) steps until the next decision, at least 0 (0 when a run is over)."""
        return np.maximum(self.spec.boundary(self.decision + 1) - self.step, 0)

    def progress_ahead(self) -> Array:
        """(R, W) progress at each step of the coming window, W the longest; beyond a run's end it is 1.

        A schedule that is a function f of progress is the decision `f(window.progress_ahead())`.
        """
        offsets = np.arange(max(1, int(self.steps_ahead.max())))
        return np.minimum((self.step[:, None] + offsets) / self.spec.num_steps[:, None], 1.0)


@dataclass(frozen=True, eq=False)
class Decision:
    """What to do until the next decision.

    Attributes:
        lr_scale: (R, W) multiplier of every group's base learning rate at each step of the coming window;
            W is at least the longest window, and entries beyond a run's own window are not used.
        bucket_weights: (R, K) probability of drawing from each bucket.
        notes: kind and message of what the user of a single run should know about this decision.
        group_scale: (R, G) further multiplier of each parameter group's base learning rate throughout the window,
            which is then `base_lr * lr_scale * group_scale`; None for 1 everywhere.
    """

    lr_scale: Array
    bucket_weights: Array
    notes: tuple[tuple[str, str], ...] = ()
    group_scale: Array | None = None

    def scale_groups(self, factor: Array) -> Decision:
        """This decision with the learning rate of each group times `factor` (R, G)."""
        scale = factor if self.group_scale is None else self.group_scale * factor
        return dataclasses.replace(self, group_scale=scale)

    def check(self, window: Window) -> Decision:
        """This decision if it fits `window`; a ValueError that says what is wrong otherwise.

        Hosts call it once per decision: controllers are plugged in by users.
        """
        runs, width = window.spec.num_runs, int(window.steps_ahead.max())
        if self.lr_scale.ndim != 2 or self.lr_scale.shape[0] != runs or self.lr_scale.shape[1] < width:
            raise ValueError(
                f"Decision.lr_scale must have shape ({runs}, >= {width}), got {self.lr_scale.shape}: "
                "one multiplier for each step of the coming window (see Window.progress_ahead)."
            )
        if not np.isfinite(self.lr_scale).all() or (self.lr_scale < 0).any():
            raise ValueError("Decision.lr_scale must be finite and >= 0 everywhere.")
        expected = window.spec.bucket_shares.shape
        if self.bucket_weights.shape != expected:
            raise ValueError(
                f"Decision.bucket_weights must have shape {expected}, got {self.bucket_weights.shape}."
            )
        weights = self.bucket_weights
        if not (weights >= 0).all() or not np.allclose(weights.sum(axis=1), 1.0, atol=1e-6):
            raise ValueError(f"Decision.bucket_weights must be probabilities that sum to 1, got {weights}.")
        if self.group_scale is not None:
            _check_groups(self.group_scale, window.spec)
        return self


class Controller(Protocol):
    """Anything that sets a learning rate or a curriculum.

    `reads` declares the telemetry it uses (a subset of `TELEMETRY`): hosts measure nothing else.
    State goes in and comes out, and holds only arrays, so that it can be saved and branched.
    """

    @property
    def reads(self) -> frozenset[str]:
        """The fields of `Window` it uses."""
        ...

    def init(self, spec: RunSpec) -> State:
        """The state before a run's first step."""
        ...

    def decide(self, state: State, window: Window) -> tuple[State, Decision]:
        """The decision for the coming window, given what happened in the last one."""
        ...


def _check_groups(scale: Array, spec: RunSpec) -> None:
    spec.require_group_rates("Decision.group_scale")
    expected = spec.base_lr.shape
    if scale.shape != expected:
        raise ValueError(
            f"Decision.group_scale must have shape {expected}, got {scale.shape}: "
            "one multiplier for each parameter group, or None for 1 everywhere."
        )
    if not np.isfinite(scale).all() or (scale < 0).any():
        raise ValueError(f"Decision.group_scale must be finite and >= 0 everywhere, got {scale}.")


def fit_groups(scale: Array, num_groups: int) -> Array:
    """(R, num_groups) `scale`, with 1 for parameter groups that joined the run since."""
    if scale.shape[1] == num_groups:
        return scale
    joined = np.ones((scale.shape[0], max(0, num_groups - scale.shape[1])))
    return np.concatenate([scale[:, :num_groups], joined], axis=1)


def check_controller(name: str, controller: Any) -> None:
    """TypeError unless `controller` is an object with the methods of `Controller`."""
    methods = [getattr(controller, method, None) for method in ("init", "decide")]
    if isinstance(controller, type) or not all(map(callable, methods)) or not hasattr(controller, "reads"):
        found = controller.__name__ if isinstance(controller, type) else type(controller).__name__
        kind = "the class " if isinstance(controller, type) else "a "
        raise TypeError(
            f"{name} must be a Controller, with init, decide and reads, got {kind}{found}: "
            "give for example rlsched.Cosine()."
        )
