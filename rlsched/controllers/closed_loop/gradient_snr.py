"""A learning rate from the signal-to-noise ratio of gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import RunSpec, State, Window
from rlsched.controllers.closed_loop.closed_loop import ClosedLoop


@dataclass(frozen=True)
class GradientSNR(ClosedLoop):
    """The learning rate in proportion to the signal in the gradients, `base_lr SNR / (1 + SNR)`.

    On a loss with curvature at most L, the step that lowers the expected loss most is 1 / L times the share of the
    squared gradient that is signal. With G the expected gradient, S the covariance of one example's and B the
    batch,

        lr = 1 / L * |G|^2 / (|G|^2 + tr(S) / B) = 1 / L * SNR / (1 + SNR)

    The base learning rate stands for 1 / L: what would be right without noise. The share is the expected cosine of
    the gradients of two independent batches, so that of consecutive ones measures it, averaged over windows.

    Source: Huang et al. 2025, OBLR-PO: A Theoretical Framework for Stable Reinforcement Learning,
        arXiv:2511.23310.
    Deviation: of the paper only the abstract was at hand; the formula is derived from what it states. The paper is
        about policy gradients, with a baseline that lowers their variance; this is its learning rate alone. The
        step between two gradients lowers their cosine by up to lr L, so at a constant share the learning rate
        settles between half of the formula's value and the whole.

    Attributes:
        memory: weight of the past in the average over windows, in [0, 0.99].
        floor: least multiple of the base learning rate, in [1e-6, 1].
        schedule: what this multiplies; by default constant.

    >>> from rlsched import RunSpec, Window
    >>> run = RunSpec.single(100, 10, base_lr=0.1, adaptive=False)
    >>> controller, state = GradientSNR(memory=0.5), {"scale": np.ones(1), "share": np.array([0.6])}
    >>> window = Window.opening(run).replace(grad_agreement=np.array([0.2]))
    >>> float(controller.decide(state, window)[1].lr_scale[0, 0])
    0.4
    """

    memory: float = 0.8
    floor: float = 0.01

    reads = frozenset({"grad_agreement"})

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.real("memory", self.memory, 0.0, 0.99)
        _check.real("floor", self.floor, 1e-6, 1.0)

    def init(self, spec: RunSpec) -> State:
        return super().init(spec) | {"share": np.full(spec.num_runs, np.nan)}

    def adapt(self, state: State, window: Window) -> State:
        seen, share = window.grad_agreement, state["share"]
        mean = np.where(np.isnan(share), seen, self.memory * share + (1.0 - self.memory) * seen)
        share = np.where(np.isfinite(seen), mean, share)
        return {"scale": np.where(np.isnan(share), 1.0, np.clip(share, self.floor, 1.0)), "share": share}
