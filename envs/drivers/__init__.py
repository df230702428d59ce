"""Drivers: methods that save, branch, restart or average training runs."""

from rlsched.envs.drivers.driver import Driven, Driver

__all__ = ["Driven", "Driver"]
