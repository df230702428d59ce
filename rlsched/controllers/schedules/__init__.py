"""Open-loop schedules: the learning rate as a function of progress, over the natural mixture of the data."""

from rlsched.controllers.schedules.between import Between
from rlsched.controllers.schedules.constant import Constant
from rlsched.controllers.schedules.cosine import Cosine
from rlsched.controllers.schedules.cyclical import Cyclical
from rlsched.controllers.schedules.infinite_lr import InfiniteLR
from rlsched.controllers.schedules.inverse_sqrt import InverseSqrt
from rlsched.controllers.schedules.linear import Linear
from rlsched.controllers.schedules.multiplicative_cycles import MultiplicativeCycles
from rlsched.controllers.schedules.one_cycle import OneCycle
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.controllers.schedules.polynomial import Polynomial
from rlsched.controllers.schedules.power import Power
from rlsched.controllers.schedules.rewarm import Rewarm
from rlsched.controllers.schedules.rex import REX
from rlsched.controllers.schedules.sampled import Sampled
from rlsched.controllers.schedules.slow_start_fast_decay import SlowStartFastDecay
from rlsched.controllers.schedules.step_decay import StepDecay
from rlsched.controllers.schedules.tabulated import Tabulated
from rlsched.controllers.schedules.token_schedule import TokenSchedule
from rlsched.controllers.schedules.uba import UBA
from rlsched.controllers.schedules.warmup import Warmup
from rlsched.controllers.schedules.wsd import WSD

__all__ = [
    "REX",
    "UBA",
    "WSD",
    "Between",
    "Constant",
    "Cosine",
    "Cyclical",
    "InfiniteLR",
    "InverseSqrt",
    "Linear",
    "MultiplicativeCycles",
    "OneCycle",
    "OpenLoop",
    "Polynomial",
    "Power",
    "Rewarm",
    "Sampled",
    "SlowStartFastDecay",
    "StepDecay",
    "Tabulated",
    "TokenSchedule",
    "Warmup",
]
