"""Timings, as ratios measured in one run: `rlsched bench`."""
