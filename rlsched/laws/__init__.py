"""Schedules from laws: fitted to recorded runs, or computed from them."""
