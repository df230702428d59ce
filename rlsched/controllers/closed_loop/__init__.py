"""Closed-loop learning rates: from telemetry, over the natural mixture of the data."""

from rlsched.controllers.closed_loop.closed_loop import ClosedLoop
from rlsched.controllers.closed_loop.fed_hyper import ClientWindow, FedHyperGlobal, FedHyperLocal
from rlsched.controllers.closed_loop.gradient_snr import GradientSNR
from rlsched.controllers.closed_loop.greedy import Greedy
from rlsched.controllers.closed_loop.hypergradient import Hypergradient
from rlsched.controllers.closed_loop.layer_rotation import LayerRotation
from rlsched.controllers.closed_loop.plateau import Plateau
from rlsched.controllers.closed_loop.polyak_momentum import PolyakMomentum
from rlsched.controllers.closed_loop.temp_balance import SigmoidBalance, TempBalance
from rlsched.controllers.closed_loop.vol_sched import VolSched

__all__ = [
    "ClientWindow",
    "ClosedLoop",
    "FedHyperGlobal",
    "FedHyperLocal",
    "GradientSNR",
    "Greedy",
    "Hypergradient",
    "LayerRotation",
    "Plateau",
    "PolyakMomentum",
    "SigmoidBalance",
    "TempBalance",
    "VolSched",
]
