"""Imitation of schedules that a search has tuned."""

from rlsched.agents.imitation.lesson import Lesson, LessonUnit
from rlsched.agents.imitation.search import SearchUnit, TunedGroup
from rlsched.agents.imitation.warm_start import WarmStart, fit

__all__ = ["Lesson", "LessonUnit", "SearchUnit", "TunedGroup", "WarmStart", "fit"]
