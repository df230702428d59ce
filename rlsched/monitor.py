"""Telemetry of one PyTorch training run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from weakref import ref

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from rlsched.contract import Array, RunSpec, Window
from rlsched.subsample import Subsample
from rlsched.telemetry import cosine, hill_exponent, is_sampled, summarise, update_ratio
from rlsched.tensors import to_array

SNAPSHOT_ELEMENTS = 2**15
"""In a user's run, gradient statistics of larger models are taken on an even subsample of about this size."""

GROUP_ELEMENTS = 2**12
"""Elements of a parameter group that its rotation is measured on at least, however many groups there are."""

_GRADIENT = frozenset({"grad_norm", "update_ratio", "grad_agreement"})


class Monitor:
    """Collects what a run's windows are made of, from an optimizer's step hooks and reported losses.

    The environment's inner run and the scheduler of a user's run both measure with this class. Gradients and
    updates are read inside `optimizer.step()`, on sampled steps only, so it does not matter when gradients
    are zeroed; the cost is bounded whatever the size of the model.

    So is that of the rotation of parameter groups, on the same steps. The exponents of their weight spectra are
    another matter: once per window, all singular values of every matrix of the optimizer, in the order of m^2 n
    operations for one of m x n (m <= n); 768 x 768 takes 0.06 s on a core.

    Args:
        optimizer: whose steps are watched.
        reads: telemetry to collect; without gradient statistics no hook is installed.
        elements: of larger models, gradient statistics are taken on an even subsample of about this many.

    Attributes:
        sampled: whether the coming step is one on which gradients and updates are read.
    """

    def __init__(self, optimizer: Optimizer, reads: frozenset[str], elements: int = SNAPSHOT_ELEMENTS) -> None:
        self._optimizer, self._elements = optimizer, elements
        self._sample: Subsample | None = None
        self._before: Tensor | None = None
        self._last_gradient: Array | None = None
        self._last_gradient_step = -1
        self._step = 0
        self._group_before: list[Tensor | None] | None = None
        self._reads = reads
        if reads & (_GRADIENT | {"group_rotation"}):
            # Weak, so that the optimizer does not keep the monitors of schedulers that were dropped.
            me = ref(self)
            optimizer.register_step_pre_hook(lambda *_: _before_step(me()))
            optimizer.register_step_post_hook(lambda *_: _after_step(me()))
        self.begin(0, 1, 1)

    def begin(self, step: int, steps_ahead: int, num_buckets: int) -> None:
        """Start a window of `steps_ahead` steps at `step`."""
        self._start = step
        self._steps_ahead = steps_ahead
        self._go_to(step)
        self._losses: list[float] = []
        self._gradients: dict[int, tuple[float, float, float]] = {}
        self._bucket_sum = np.zeros(num_buckets)
        self._bucket_count = np.zeros(num_buckets)
        self._reported = np.full(num_buckets, np.nan)
        self._validation = math.nan
        self._rotations: dict[int, list[float]] = {}

    def record(self, mean: float | None, losses: Array | None = None, bucket_ids: Array | None = None) -> None:
        """The end of a step with this mean loss, None if it is not known.

        With `bucket_ids` (n,) the `losses` (n,) of the examples are credited to the buckets they were drawn from.
        """
        if mean is None:
            self._losses.append(math.nan)
        elif not math.isfinite(mean):
            self._losses.append(math.inf)
        else:
            self._losses.append(mean)
            if bucket_ids is not None:
                num_buckets = len(self._bucket_sum)
                self._bucket_sum += np.bincount(bucket_ids, weights=losses, minlength=num_buckets)
                self._bucket_count += np.bincount(bucket_ids, minlength=num_buckets)
        self._go_to(self._step + 1)

    @property
    def buckets(self) -> Array:
        """Bucket losses (K,) reported during this window, NaN where there are none."""
        return self._reported.copy()

    def report_buckets(self, losses: Array) -> None:
        """Bucket losses (K,) measured during this window, NaN where not; they replace the drawn examples'."""
        self._reported = np.where(np.isnan(losses), self._reported, losses)

    @property
    def validation(self) -> float:
        """The validation loss reported during this window, NaN if there is none."""
        return self._validation

    def report_validation(self, loss: float) -> None:
        """A validation loss measured during this window."""
        self._validation = loss

    def close(self, spec: RunSpec, decision: int) -> Window:
        """The `Window` of the steps since `begin`; `decision` is the index of the decision now due."""
        width = max(1, len(self._losses))
        gradients = np.full((3, 1, width), np.nan)
        for offset, values in self._gradients.items():
            if offset < width:
                gradients[:, 0, offset] = values
        seen = self._bucket_count > 0
        means = np.where(seen, self._bucket_sum / np.maximum(self._bucket_count, 1.0), np.nan)
        reads, groups = self._reads, spec.num_groups
        return summarise(
            spec,
            np.array([self._step]),
            np.array([decision]),
            losses=np.array([self._losses or [math.nan]]),
            grad_norms=gradients[0],
            update_ratios=gradients[1],
            grad_agreements=gradients[2],
            bucket_loss=np.where(np.isnan(self._reported), means, self._reported)[None],
            validation_loss=np.array([self._validation]),
            group_alpha=self._group_exponents(groups) if "group_alpha" in reads else None,
            group_rotations=self._group_rotations(groups, width) if "group_rotation" in reads else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """The open window and the last gradient, as tensors and plain numbers."""
        return {
            "step": self._step,
            "start": self._start,
            "steps_ahead": self._steps_ahead,
            "losses": list(self._losses),
            "gradients": {offset: list(values) for offset, values in self._gradients.items()},
            "bucket_sum": self._bucket_sum.tolist(),
            "bucket_count": self._bucket_count.tolist(),
            "reported": self._reported.tolist(),
            "validation": self._validation,
            "last_gradient": None if self._last_gradient is None else torch.from_numpy(self._last_gradient.copy()),
            "last_gradient_step": self._last_gradient_step,
            "rotations": {offset: list(values) for offset, values in self._rotations.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the window that `state_dict` was taken in."""
        self.begin(int(state["start"]), int(state["steps_ahead"]), len(state["bucket_sum"]))
        self._go_to(int(state["step"]))
        self._losses = list(state["losses"])
        self._gradients = {int(k): (v[0], v[1], v[2]) for k, v in state["gradients"].items()}
        self._bucket_sum = np.array(state["bucket_sum"])
        self._bucket_count = np.array(state["bucket_count"])
        self._reported = np.array(state["reported"])
        self._validation = float(state["validation"])
        gradient = state["last_gradient"]
        self._last_gradient = None if gradient is None else to_array(gradient)
        self._last_gradient_step = int(state["last_gradient_step"])
        self._rotations = {int(k): list(v) for k, v in state["rotations"].items()}

    def _group_exponents(self, num_groups: int) -> Array:
        """(1, G) mean exponent of each group; those that joined the run since are left out."""
        return np.array([[_mean_exponent(group) for group in self._optimizer.param_groups[:num_groups]]])

    def _group_rotations(self, num_groups: int, width: int) -> Array:
        """(1, G, W) rotation of each group in each step; NaN where not sampled, or before a group joined."""
        rotations = np.full((1, num_groups, width), np.nan)
        for offset, values in self._rotations.items():
            if offset < width:
                known = values[:num_groups]
                rotations[0, : len(known), offset] = known
        return rotations

    def _group_weights(self) -> list[Tensor | None]:
        """Of each parameter group a copy of its matrices, evenly subsampled, or None if it has none."""
        groups = self._optimizer.param_groups
        elements = max(GROUP_ELEMENTS, self._elements // len(groups))
        weights = [_matrices(group) for group in groups]
        return [Subsample(each, elements).read(each) if each else None for each in weights]

    def _go_to(self, step: int) -> None:
        self._step = step
        self.sampled = bool(is_sampled(step - self._start, self._steps_ahead))

    def before_step(self) -> None:
        """The optimizer is about to make a step that is sampled."""
        if self._reads & _GRADIENT:
            self._sample = sample = self._choose()
            self._before = sample.read(sample.parameters) if sample else None
        if "group_rotation" in self._reads:
            self._group_before = self._group_weights()

    def after_step(self) -> None:
        """It has made it, or left it out."""
        if self._before is None and self._group_before is None:
            return
        before, self._before = self._before, None
        groups, self._group_before = self._group_before, None
        # A fused optimizer runs this also where gradient scaling makes it skip the update.
        found_inf = getattr(self._optimizer, "found_inf", None)
        if found_inf is not None and bool(found_inf):
            return
        if groups is not None:
            distances = [_cosine_distance(*pair) for pair in zip(groups, self._group_weights(), strict=True)]
            self._rotations[self._step - self._start] = torch.stack(distances).tolist()
        if before is not None and self._sample is not None:
            self._measure(self._sample, before)

    def _measure(self, sample: Subsample, before: Tensor) -> None:
        """Gradient statistics of an update, from the parameters `before` it."""
        gradients = [parameter.grad for parameter in sample.parameters]
        known = [gradient for gradient in gradients if gradient is not None]
        if not known or any(gradient.is_sparse for gradient in known):
            return
        # One transfer from the device, and then NumPy: what costs is the number of operations, not their size.
        read = [before, sample.read(sample.parameters), sample.read(gradients)]
        values = torch.stack(read).cpu().numpy()
        gradient = values[2]
        with np.errstate(over="ignore", invalid="ignore"):
            square = float(gradient @ gradient)
            if not math.isfinite(square):
                return
            values[1] -= values[0]
            sizes, moved = sample.norms(values[:2]).T
        norm, agreement, last = math.sqrt(square), math.nan, self._last_gradient
        if last is not None and self._last_gradient_step == self._step - 1 and last.shape == gradient.shape:
            agreement = float(cosine(float(gradient @ last), norm, math.sqrt(float(last @ last))))
        self._last_gradient, self._last_gradient_step = gradient, self._step
        ratio = float(update_ratio(moved, sizes, sample.matrices))
        self._gradients[self._step - self._start] = (norm, ratio, agreement)

    def _choose(self) -> Subsample | None:
        """Of the trained parameters those that are measured, None where there is none to measure.

        Whether they have a gradient yet plays no part: a training library may compute it inside the step.
        """
        trained = [p for p in self._parameters() if p.requires_grad and (p.grad is None or not p.grad.is_sparse)]
        if self._sample is not None and self._sample.is_of(trained):
            return self._sample
        return Subsample(trained, self._elements) if trained else None

    def _parameters(self) -> Iterator[Tensor]:
        for group in self._optimizer.param_groups:
            yield from group["params"]


def _matrices(group: dict[str, Any]) -> list[Tensor]:
    """The trained parameters of a group that have a spectrum: matrices and kernels, no biases and gains."""
    return [parameter for parameter in group["params"] if parameter.requires_grad and parameter.ndim >= 2]


def _mean_exponent(group: dict[str, Any]) -> float:
    """The mean `hill_exponent` of a group's matrices, NaN if none has one."""
    exponents = [hill_exponent(_eigenvalues(weight)) for weight in _matrices(group)]
    known = [exponent for exponent in exponents if not math.isnan(exponent)]
    return sum(known) / len(known) if known else math.nan


def _eigenvalues(weight: Tensor) -> Array:
    """Eigenvalues of W^T W; of a kernel, those of its matrices (out, in) at every position, in one spectrum."""
    matrices = weight.detach().to(torch.float64 if weight.dtype == torch.float64 else torch.float32)
    if matrices.ndim > 2:
        matrices = matrices.flatten(2).permute(2, 0, 1)
    try:
        values = torch.linalg.svdvals(matrices)
    except torch.linalg.LinAlgError:  # of weights that are not finite, on some devices
        return np.full(1, np.nan)
    return np.asarray(values.flatten().double().cpu().numpy()) ** 2


def _cosine_distance(before: Tensor | None, now: Tensor | None) -> Tensor:
    """`1 - cos` of the angle between two vectors, exact also for tiny angles; NaN if one is missing."""
    if before is None or now is None or before.shape != now.shape:
        return torch.full((), math.nan, dtype=torch.float64)
    one, other = before.to(now.device, torch.float64), now.double()
    return ((one / one.norm() - other / other.norm()).square().sum() / 2).cpu()


# At nearly every step there is nothing to do, and that should take no time.


def _before_step(monitor: Monitor | None) -> None:
    if monitor is not None and monitor.sampled:
        monitor.before_step()


def _after_step(monitor: Monitor | None) -> None:
    if monitor is not None and monitor.sampled:
        monitor.after_step()
