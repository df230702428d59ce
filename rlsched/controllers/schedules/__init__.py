"""Open-loop schedules: the learning rate as a function of progress, over the natural mixture of the data."""

from rlsched.controllers.schedules.constant import Constant
from rlsched.controllers.schedules.cosine import Cosine
from rlsched.controllers.schedules.linear import Linear
from rlsched.controllers.schedules.open_loop import OpenLoop
from rlsched.controllers.schedules.rex import REX
from rlsched.controllers.schedules.warmup import Warmup
from rlsched.controllers.schedules.wsd import WSD

__all__ = ["REX", "WSD", "Constant", "Cosine", "Linear", "OpenLoop", "Warmup"]
