"""FedHyper: hypergradient descent on the two learning rates of federated learning."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array, RunSpec, State, Window
from rlsched.controllers.closed_loop.closed_loop import ClosedLoop
from rlsched.controllers.closed_loop.hypergradient import moved
from rlsched.controllers.closed_loop.measures import first_base_lr, gradient_product


@dataclass(frozen=True)
class FedHyperGlobal(ClosedLoop):
    """The server's learning rate in federated learning, by the agreement of consecutive global updates.

    The run is the server's: a step is a round, its gradient minus the mean D_t of the clients' model changes, its
    optimizer plain SGD, with a base learning rate of 1 for plain averaging. After each round

        lr <- clip(lr + rate <D_t, D_{t-1}>, base / bound, base bound)

    Source: Wang et al. 2023, FedHyper: A Universal and Robust Learning Rate Scheduler for Federated Learning with
        Hypergradient Descent, arXiv:2310.03156 (FedHyper-G).
    Deviation: the paper's text was not at hand, but its authors' code, and the paper's rate of 1 and bound of 3.
        The learning rate acts from the next round on, while theirs acts on D_t itself. A window of several rounds
        moves it once, by their mean, so give a run as many decisions as it has rounds.

    Attributes:
        rate: of the hypergradient, in units of a learning rate per squared update, at least 0.
        bound: the learning rate stays between 1 / bound and bound times the base, in [1, 1e6].
        schedule: what this multiplies; by default constant.

    >>> from rlsched import RunSpec, Window
    >>> server = RunSpec.single(20, 19, base_lr=1.0, adaptive=False)
    >>> window = Window.opening(server).replace(grad_agreement=np.array([0.5]), grad_norm=np.array([2.0]))
    >>> controller = FedHyperGlobal()
    >>> float(controller.decide(controller.init(server), window)[1].lr_scale[0, 0])
    3.0
    """

    rate: float = 1.0
    bound: float = 3.0

    reads = frozenset({"grad_norm", "grad_agreement"})

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.real("rate", self.rate, 0.0)
        _check.real("bound", self.bound, 1.0, 1e6)

    def init(self, spec: RunSpec) -> State:
        return super().init(spec) | {"grad_norm": np.full(spec.num_runs, np.nan)}

    def adapt(self, state: State, window: Window) -> State:
        change = self.rate * self.hypergradient(state, window) / first_base_lr(window)
        norm = np.where(np.isfinite(window.grad_norm), window.grad_norm, state["grad_norm"])
        return {"scale": moved(state["scale"], change, self.bound), "grad_norm": norm}

    def hypergradient(self, state: State, window: Window) -> Array:
        """(R,) minus the derivative of the loss by the learning rate; NaN where it was not measured."""
        return gradient_product(window, state["grad_norm"])


@dataclass(frozen=True, eq=False)
class ClientWindow(Window):
    """A window of a client's local training, with what only the federation knows.

    Attributes:
        global_product: (R,) inner product of the client's latest gradient with the last global update, as a
            gradient (minus the model's change), divided by the number of local steps it stands for; NaN where
            unknown.
    """

    global_product: Array = dataclasses.field(kw_only=True)

    @classmethod
    def of(cls, window: Window, global_product: Array) -> ClientWindow:
        """`window` with `global_product`."""
        fields = {field.name: getattr(window, field.name) for field in dataclasses.fields(Window)}
        return cls(**fields, global_product=global_product)


@dataclass(frozen=True)
class FedHyperLocal(FedHyperGlobal):
    """A client's learning rate in federated learning, by its gradients' agreement with each other and the server.

    The run is the client's, over all rounds. With g_k its gradient at a local step, D the last global update as a
    gradient, and K the local steps of a round,

        lr <- clip(lr + rate (<g_k, g_{k-1}> + <g_k, D> / K), base / bound, base bound)

    so that a client that moves against the others does not speed up. The second term is there where the windows
    are `ClientWindow`s: a host that does not know of the federation cannot measure it.

    Source: Wang et al. 2023, FedHyper: A Universal and Robust Learning Rate Scheduler for Federated Learning with
        Hypergradient Descent, arXiv:2310.03156 (FedHyper-CL).
    Deviation: the paper's text was not at hand; the formula and the bound of 10 are as others quote them. Its
        authors' code has a relative form: it multiplies the learning rate by 1 plus inner products of updates, by
        at most 1.1 a step. Here the learning rate moves once a window rather than at each local step, and goes on
        from round to round.

    Attributes:
        rate: of the hypergradient, in units of a learning rate per squared gradient norm, at least 0.
        bound: the learning rate stays between 1 / bound and bound times the base, in [1, 1e6].
        schedule: what this multiplies; by default constant.

    >>> from rlsched import RunSpec, Window
    >>> client = RunSpec.single(20, 19, base_lr=0.5, adaptive=False)
    >>> window = Window.opening(client).replace(grad_agreement=np.array([0.5]), grad_norm=np.array([2.0]))
    >>> window = ClientWindow.of(window, global_product=np.array([-1.5]))
    >>> controller = FedHyperLocal()
    >>> float(controller.decide(controller.init(client), window)[1].lr_scale[0, 0])
    2.0
    """

    bound: float = 10.0

    def hypergradient(self, state: State, window: Window) -> Array:
        own = super().hypergradient(state, window)
        shared = window.global_product if isinstance(window, ClientWindow) else np.full_like(own, np.nan)
        known = np.isfinite(own) | np.isfinite(shared)
        return np.where(known, np.nan_to_num(own) + np.nan_to_num(shared), np.nan)
