"""Hypergradient descent: the learning rate learns by the gradient of the loss with respect to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array, RunSpec, State, Window
from rlsched.controllers.closed_loop.closed_loop import ClosedLoop
from rlsched.controllers.closed_loop.measures import first_base_lr, gradient_product

RULES = ("multiplicative", "additive")
RATE = 0.3
"""Of the multiplicative rule: a window of parallel gradients raises the learning rate by 30 %."""


@dataclass(frozen=True)
class Hypergradient(ClosedLoop):
    """The learning rate rises while consecutive gradients agree, and falls when they turn against each other.

    The derivative of the loss by the learning rate of the step before is minus the inner product of the two
    gradients. With c the window's mean cosine of consecutive gradients and h their mean inner product,

        multiplicative:  lr <- lr (1 + rate c)
        additive:        lr <- lr + rate h

    Source: Baydin et al. 2018, Online Learning Rate Adaptation with Hypergradient Descent, arXiv:1703.04782.
    Deviation: the learning rate moves once a window, by the mean over the window's sampled steps, not at every
        step; rates are therefore larger than the paper's. It is the rule for SGD whatever the optimizer: under
        momentum or Adam the gradient stands in for the last update's direction. The scale is bounded.

    Attributes:
        rule: "multiplicative", which knows no units, or "additive".
        rate: the hypergradient's own learning rate; by default 0.3 in the multiplicative rule, where it is in
            [0, 0.99]. The additive rule has it in units of a learning rate per squared gradient norm, at least 0,
            and no default.
        bound: the learning rate stays between 1 / bound and bound times the base, in [1, 1e6].
        schedule: what this multiplies; by default constant.

    >>> from rlsched import RunSpec, Window
    >>> run = RunSpec.single(100, 10, base_lr=0.1, adaptive=False)
    >>> controller = Hypergradient()
    >>> window = Window.opening(run).replace(grad_agreement=np.array([-0.4]))
    >>> _, decision = controller.decide(controller.init(run), window)
    >>> float(decision.lr_scale[0, 0])
    0.88
    """

    rule: str = "multiplicative"
    rate: float | None = None
    bound: float = 1000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice("rule", self.rule, RULES)
        if self.rate is None and self.rule == "additive":
            raise _check.ArgumentError(
                "rate must be given with the additive rule, whose units are the task's: try what would move the "
                "learning rate by a tenth, 0.1 lr / |g|^2."
            )
        if self.rate is not None:
            _check.real("rate", self.rate, 0.0, 0.99 if self.rule == "multiplicative" else np.inf)
        _check.real("bound", self.bound, 1.0, 1e6)

    @property
    def reads(self) -> frozenset[str]:  # type: ignore[override]
        """The cosine, and for the additive rule the norm."""
        return frozenset({"grad_agreement"} | ({"grad_norm"} if self.rule == "additive" else set()))

    def init(self, spec: RunSpec) -> State:
        return super().init(spec) | {"grad_norm": np.full(spec.num_runs, np.nan)}

    def adapt(self, state: State, window: Window) -> State:
        if self.rule == "multiplicative":
            change = state["scale"] * (RATE if self.rate is None else self.rate) * window.grad_agreement
        else:
            assert self.rate is not None
            change = self.rate * gradient_product(window, state["grad_norm"]) / first_base_lr(window)
        norm = np.where(np.isfinite(window.grad_norm), window.grad_norm, state["grad_norm"])
        return {"scale": moved(state["scale"], change, self.bound), "grad_norm": norm}


def moved(scale: Array, change: Array, bound: float) -> Array:
    """`scale + change` within [1 / bound, bound]; as it was where the change is not known."""
    return np.where(np.isnan(change), scale, np.clip(scale + change, 1.0 / bound, bound))
