"""Controllers: everything that sets a learning rate or a curriculum."""

from rlsched.controllers.curricula import Curriculum, FixedCurriculum, curricula
from rlsched.controllers.guard import Guard
from rlsched.controllers.learned import PolicyController
from rlsched.controllers.schedules import REX, WSD, Constant, Cosine, Linear, Warmup

__all__ = [
    "REX",
    "WSD",
    "Constant",
    "Cosine",
    "Curriculum",
    "FixedCurriculum",
    "Guard",
    "Linear",
    "PolicyController",
    "Warmup",
    "curricula",
]
