"""Controllers: everything that sets a learning rate or a curriculum."""

from rlsched.controllers.guard import Guard
from rlsched.controllers.learned import PolicyController
from rlsched.controllers.schedules import Constant, Cosine, Linear

__all__ = ["Constant", "Cosine", "Guard", "Linear", "PolicyController"]
