"""Families of training tasks."""

from rlsched.envs.tasks.digits import Digits, DigitsConfig
from rlsched.envs.tasks.tabular import Tabular, TabularConfig
from rlsched.envs.tasks.task import Task, TaskConfig, TaskFamily

__all__ = ["Digits", "DigitsConfig", "Tabular", "TabularConfig", "Task", "TaskConfig", "TaskFamily"]
